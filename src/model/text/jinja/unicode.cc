#include "model/text/jinja/unicode.h"

#include <algorithm>
#include <utility>

namespace larder::jinja {

namespace {

constexpr char32_t kBadByte = 0xDC80;  // Python's surrogateescape

bool between(char32_t code, char32_t first, char32_t last) noexcept {
  return code >= first && code <= last;
}

char32_t upper(char32_t c) noexcept {
  if (between(c, 'a', 'z') || (between(c, 0xE0, 0xFE) && c != 0xF7)) return c - 0x20;
  if (c == 0xFF) return 0x178;
  if (between(c, 0x100, 0x137) && c != 0x131) return c & ~1U;
  if (between(c, 0x14A, 0x177)) return c & ~1U;
  if (between(c, 0x139, 0x148) || between(c, 0x179, 0x17E)) return c % 2 == 0 ? c - 1 : c;
  if (c == 0x3C2) return 0x3A3;
  if (between(c, 0x3B1, 0x3CB)) return c - 0x20;
  if (between(c, 0x430, 0x44F)) return c - 0x20;
  if (between(c, 0x450, 0x45F)) return c - 0x50;
  return c;
}

char32_t lower(char32_t c) noexcept {
  if (between(c, 'A', 'Z') || (between(c, 0xC0, 0xDE) && c != 0xD7)) return c + 0x20;
  if (c == 0x178) return 0xFF;
  if (between(c, 0x100, 0x137) && c != 0x130) return c | 1U;
  if (between(c, 0x14A, 0x177)) return c | 1U;
  if (between(c, 0x139, 0x148) || between(c, 0x179, 0x17E)) return c % 2 == 1 ? c + 1 : c;
  if (between(c, 0x391, 0x3AB) && c != 0x3A2) return c + 0x20;
  if (between(c, 0x410, 0x42F)) return c + 0x20;
  if (between(c, 0x400, 0x40F)) return c + 0x50;
  return c;
}

bool is_cased(char32_t c) noexcept {
  return upper(c) != c || lower(c) != c || c == 0xDF;  // sharp s has no capital of one letter
}

void append(std::string_view text, std::size_t offset, const Character& c, char32_t mapped,
            std::string& out) {
  if (mapped == c.code) {
    out.append(text.substr(offset, c.size));  // keeps invalid bytes as they are
  } else {
    append_utf8(mapped, out);
  }
}

/// Copies `text`; `map(code)` is called for each character in turn.
template <class Map>
std::string mapped(std::string_view text, Map&& map) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const Character c = character_at(text, i);
    append(text, i, c, map(c.code), out);
    i += c.size;
  }
  return out;
}

bool contains(std::string_view chars, char32_t code) {
  for (std::size_t i = 0; i < chars.size();) {
    const Character c = character_at(chars, i);
    if (c.code == code) return true;
    i += c.size;
  }
  return false;
}

std::size_t last_character(std::string_view text) noexcept {
  std::size_t i = text.size() - 1;
  const std::size_t earliest = text.size() < 4 ? 0 : text.size() - 4;
  while (i > earliest && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) --i;
  return i + character_at(text, i).size == text.size() ? i : text.size() - 1;
}

bool ends_line(char32_t c) noexcept {
  return between(c, 0x0A, 0x0D) || between(c, 0x1C, 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

}  // namespace

Character character_at(std::string_view text, std::size_t offset) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[offset + i]); };
  const std::size_t left = text.size() - offset;
  const unsigned first = byte(0);
  if (first < 0x80) return {first, 1};
  const std::size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  const Character bad{kBadByte + (first - 0x80), 1};
  if (first < 0xC2 || first > 0xF4 || left < size) return bad;
  char32_t code = first & (0xFFU >> (size + 1));
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) return bad;
    code = (code << 6) | (byte(i) & 0x3FU);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kSmallest[size] || code > 0x10FFFF || between(code, 0xD800, 0xDFFF)) return bad;
  return {code, size};
}

void append_utf8(char32_t code, std::string& out) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

std::size_t count_characters(std::string_view text) noexcept {
  std::size_t n = 0;
  for (std::size_t i = 0; i < text.size(); ++n) i += character_at(text, i).size;
  return n;
}

std::vector<std::size_t> character_offsets(std::string_view text) {
  std::vector<std::size_t> offsets;
  offsets.reserve(text.size() + 1);
  for (std::size_t i = 0; i < text.size(); i += character_at(text, i).size) offsets.push_back(i);
  offsets.push_back(text.size());
  return offsets;
}

bool is_space(char32_t c) noexcept {
  return between(c, 0x09, 0x0D) || between(c, 0x1C, 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || between(c, 0x2000, 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string_view strip(std::string_view text, Side side, const std::string* chars) {
  const auto drops = [&](char32_t code) {
    return chars != nullptr ? contains(*chars, code) : is_space(code);
  };
  while (side != Side::right && !text.empty()) {
    const Character c = character_at(text, 0);
    if (!drops(c.code)) break;
    text.remove_prefix(c.size);
  }
  while (side != Side::left && !text.empty()) {
    const std::size_t last = last_character(text);
    if (!drops(character_at(text, last).code)) break;
    text = text.substr(0, last);
  }
  return text;
}

std::string to_upper(std::string_view text) { return mapped(text, upper); }
std::string to_lower(std::string_view text) { return mapped(text, lower); }

std::string capitalize(std::string_view text) {
  bool first = true;
  return mapped(text,
                [&](char32_t c) { return std::exchange(first, false) ? upper(c) : lower(c); });
}

std::string title_words(std::string_view text) {
  bool inside = false;
  return mapped(
      text, [&](char32_t c) { return std::exchange(inside, is_cased(c)) ? lower(c) : upper(c); });
}

std::string title_phrase(std::string_view text) {
  bool inside = false;
  return mapped(text, [&](char32_t c) {
    const bool separates = is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    return std::exchange(inside, !separates) ? lower(c) : upper(c);
  });
}

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  std::size_t start = 0;
  for (std::size_t i = 0; i < text.size();) {
    const Character c = character_at(text, i);
    const std::size_t end = i;
    i += c.size;
    if (!ends_line(c.code)) continue;
    if (c.code == '\r' && i < text.size() && text[i] == '\n') ++i;
    lines.push_back(text.substr(start, end - start));
    start = i;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

}  // namespace larder::jinja
