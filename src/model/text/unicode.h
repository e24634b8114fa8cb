// The little of Unicode that tokenizers need: UTF-8, white space, canonical composition.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace larder {

inline constexpr std::string_view kReplacementChar = "\xEF\xBF\xBD";  // U+FFFD
inline constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581, SentencePiece's space

/// What the bytes at the beginning of a text are.
enum class Utf8Status : std::uint8_t { complete, invalid, unfinished };

struct Utf8Step {
  Utf8Status status = Utf8Status::invalid;
  std::uint8_t n_bytes = 0;  // of the character, or of the longest beginning of one (at least 1)
  char32_t code_point = 0;   // when complete
};

/// Reads one character; REQUIRES: `text` not empty. `unfinished`: the text ends inside a character
/// that further bytes could complete. Overlong forms, surrogates and values above U+10FFFF are
/// invalid.
Utf8Step next_character(std::string_view text) noexcept;

/// Bytes of the character at the beginning of valid UTF-8, from its first byte.
inline std::size_t character_bytes(char first) noexcept {
  const auto byte = static_cast<unsigned char>(first);
  if (byte < 0x80) return 1;
  return byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

void append_utf8(char32_t code_point, std::string& out);

/// Appends `bytes` with each longest invalid part replaced by one U+FFFD (Unicode 3.9, "maximal
/// subpart"). With `hold_back`, an unfinished character at the end is left out.
/// Returns the number of bytes consumed.
std::size_t append_valid_utf8(std::string_view bytes, bool hold_back, std::string& out);
bool is_valid_utf8(std::string_view bytes) noexcept;

/// The property White_Space.
bool is_white_space(char32_t c) noexcept;

/// Normalisation form C. REQUIRES: valid UTF-8. Returns at once when nothing at or above U+0300
/// occurs.
std::string to_nfc(std::string_view text);

}  // namespace larder
