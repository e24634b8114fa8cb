// Text from files and pipes, within a limit.
#pragma once

#include <cstdint>
#include <string>

#include "larder/result.h"

namespace larder {

/// Errors: not_found, io, invalid_argument when the file is longer than `max_bytes`.
Result<std::string> read_text_file(const std::string& path, std::uint64_t max_bytes);
Result<std::string> read_stdin(std::uint64_t max_bytes);

}  // namespace larder
