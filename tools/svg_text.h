// Words in pictures.
#pragma once

#include <string>
#include <string_view>

namespace larder {

/// Text between tags and in attributes: < > & and quotes as entities; bytes below 32, which XML
/// does not allow, as blanks.
inline std::string xml_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 32 ? ' ' : c;
    }
  }
  return out;
}

}  // namespace larder
