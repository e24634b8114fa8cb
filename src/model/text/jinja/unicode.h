// Text as Python sees it: characters, not bytes. Invalid UTF-8 counts as one character per byte.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace larder::jinja {

struct Character {
  char32_t code;     // 0xDC80 + byte for a byte that is not UTF-8
  std::size_t size;  // bytes, 1 to 4
};

/// The character at `offset`. REQUIRES: offset < text.size().
Character character_at(std::string_view text, std::size_t offset) noexcept;
void append_utf8(char32_t code, std::string& out);

std::size_t count_characters(std::string_view text) noexcept;
/// Byte offset of every character, and text.size() at the end.
std::vector<std::size_t> character_offsets(std::string_view text);

/// Python's str.isspace.
bool is_space(char32_t code) noexcept;

enum class Side : std::uint8_t { left, right, both };
/// str.strip and its kin. `chars`: the characters to drop; null: white space.
std::string_view strip(std::string_view text, Side side, const std::string* chars);

// Case mapping of the Latin, Greek and Cyrillic alphabets; others stay as they are.
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string capitalize(std::string_view text);    // str.capitalize
std::string title_words(std::string_view text);   // str.title: after every character without case
std::string title_phrase(std::string_view text);  // Jinja's title filter: after blanks and brackets

/// str.splitlines: without the line ends.
std::vector<std::string_view> split_lines(std::string_view text);

}  // namespace larder::jinja
