// The JSON directory of a safetensors file, event by event: no tree of it is ever built, because a
// tree of 100 MB of brackets takes gigabytes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"

namespace larder {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::array<std::uint64_t, 2> offsets{};  // [begin, end) from the end of the header
};

/// Form only: every entry has the three fields, of the right types. What they say is not checked.
/// Errors: corrupt.
Result<std::vector<SafetensorsEntry>> parse_safetensors_header(std::string_view json,
                                                               const std::string& origin);

}  // namespace larder
