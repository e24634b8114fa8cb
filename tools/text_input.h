// Text from files and pipes, within a limit.
#pragma once

#include <cstdint>
#include <string>

#include "larder/result.h"

namespace larder {

/// Of a text to score: hours of work on any CPU.
inline constexpr std::uint64_t kMaxTextBytes = 256ULL << 20;

/// Errors: not_found, io, invalid_argument for a directory and for more than `max_bytes` (refused
/// by its size, unread, where the file has one).
Result<std::string> read_text_file(const std::string& path, std::uint64_t max_bytes);
Result<std::string> read_stdin(std::uint64_t max_bytes);

/// For a text that is read after hours of work: the errors of `read_text_file` that show before the
/// first byte, and invalid_argument for an empty file. Pipes and devices are left unopened.
Result<void> check_text_file(const std::string& path, std::uint64_t max_bytes);

}  // namespace larder
