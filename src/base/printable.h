// Text that may hold anything, for messages.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace larder {

/// Text from a file, safe to print: control characters and bytes beyond ASCII as \xNN, cut
/// after `n_shown` bytes.
inline std::string printable(std::string_view text, std::size_t n_shown = 64) {
  std::string out;
  for (const char c : text.substr(0, n_shown)) {
    if (c >= ' ' && c <= '~') {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (text.size() > n_shown) out += "...";
  return out;
}

}  // namespace larder
