#include "base/json_shape.h"

#include <algorithm>
#include <array>

namespace larder {

JsonShape measure_json(std::string_view text) noexcept {
  constexpr std::size_t kCounted = 128;
  std::array<std::size_t, kCounted + 1> n_members{};  // of what is open at each depth
  JsonShape shape;
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      ++shape.n_values;
      shape.depth = std::max(shape.depth, ++depth);
      if (depth <= kCounted) n_members[depth] = 0;
    } else if (c == ']' || c == '}') {
      if (depth > 0) --depth;
    } else if (c == ',') {
      ++shape.n_values;
    } else if (c == ':' && depth <= kCounted) {
      shape.n_members = std::max(shape.n_members, ++n_members[depth]);
    }
  }
  return shape;
}

}  // namespace larder
