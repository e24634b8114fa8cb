// Whose fault it is that a path cannot be opened.
#pragma once

#include <cerrno>

#include "larder/result.h"

namespace larder {

/// For `errno` of an open or a stat: not_found or invalid_argument where another path or other
/// permissions would help, io where the machine is at its limits or its disk fails.
inline Errc errc_of_open(int error) noexcept {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return Errc::not_found;
    case EIO:
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EINTR:
      return Errc::io;
    default:
      return Errc::invalid_argument;
  }
}

}  // namespace larder
