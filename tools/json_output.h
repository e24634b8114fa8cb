// JSON on standard output.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

namespace larder {

/// Indented, with a final newline. Bytes that are no UTF-8 (names in broken files) become U+FFFD.
inline void print_json(const nlohmann::ordered_json& json) {
  const std::string text =
      json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
}

}  // namespace larder
