// Small files that options name.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "larder/result.h"

namespace larder {

/// The bytes of a regular file, never of a pipe. Errors, which name `field`: not_found,
/// invalid_argument (no regular file, more than `max_bytes`), io.
Result<std::string> read_small_file(std::string_view field, const std::string& path,
                                    std::size_t max_bytes);

}  // namespace larder
