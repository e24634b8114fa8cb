#include "model/text/unicode.h"

namespace larder {

Utf8Step next_character(std::string_view text) noexcept {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = at(0);
  if (first < 0x80) return {Utf8Status::complete, 1, first};
  if (first < 0xC2 || first > 0xF4) return {Utf8Status::invalid, 1, 0};
  const std::uint8_t n_bytes = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  // The second byte's range is what excludes overlong forms, surrogates and values above U+10FFFF.
  const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  char32_t code_point = first & (0xFFU >> (n_bytes + 1));
  for (std::uint8_t i = 1; i < n_bytes; ++i) {
    if (i >= text.size()) return {Utf8Status::unfinished, i, 0};
    const unsigned char byte = at(i);
    const bool fits = i == 1 ? byte >= low && byte <= high : (byte & 0xC0) == 0x80;
    if (!fits) return {Utf8Status::invalid, i, 0};
    code_point = (code_point << 6) | (byte & 0x3FU);
  }
  return {Utf8Status::complete, n_bytes, code_point};
}

void append_utf8(char32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
    return;
  }
  const int n_following = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  const unsigned lead = n_following == 1 ? 0xC0U : n_following == 2 ? 0xE0U : 0xF0U;
  out += static_cast<char>(lead | (c >> (6 * n_following)));
  for (int i = n_following - 1; i >= 0; --i) {
    out += static_cast<char>(0x80U | ((c >> (6 * i)) & 0x3FU));
  }
}

std::size_t append_valid_utf8(std::string_view bytes, bool hold_back, std::string& out) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const Utf8Step step = next_character(bytes.substr(done));
    if (step.status == Utf8Status::unfinished && hold_back) break;
    if (step.status == Utf8Status::complete) {
      out.append(bytes, done, step.n_bytes);
    } else {
      out += kReplacementChar;
    }
    done += step.n_bytes;
  }
  return done;
}

bool is_valid_utf8(std::string_view bytes) noexcept {
  std::size_t i = 0;
  while (i < bytes.size()) {
    if (static_cast<unsigned char>(bytes[i]) < 0x80) {
      ++i;
      continue;
    }
    const Utf8Step step = next_character(bytes.substr(i));
    if (step.status != Utf8Status::complete) return false;
    i += step.n_bytes;
  }
  return true;
}

bool is_white_space(char32_t c) noexcept {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

}  // namespace larder
