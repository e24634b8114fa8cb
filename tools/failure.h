// How a command ends: the exit codes, and one sentence on standard error.
#pragma once

#include <cstdio>
#include <string_view>

#include "larder/result.h"

namespace larder {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;    // the run failed: disk full, not enough memory
inline constexpr int kExitBadInput = 2;  // a flag, file or text that cannot be used as it is

/// Prints "larder: <message>" to standard error.
inline void complain(std::string_view message) {
  std::fprintf(stderr, "larder: %.*s\n", static_cast<int>(message.size()), message.data());
}

/// Prints the error and returns the exit code that belongs to it:
/// `if (!file) { exit_code = report_failure(file.error()); return; }`
inline int report_failure(const Error& error) {
  complain(error.message);
  return error.code == Errc::io || error.code == Errc::unavailable ? kExitFailed : kExitBadInput;
}

}  // namespace larder
