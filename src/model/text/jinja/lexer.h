// Splits a template into text and the tokens of its tags, with Jinja's rules for white space.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"
#include "model/text/jinja/ast.h"

namespace larder::jinja {

enum class TokenKind : std::uint8_t {
  data,  // text between tags, stripped as trim_blocks, lstrip_blocks and the minus signs ask
  print_begin,
  print_end,
  block_begin,
  block_end,
  name,
  text,
  integer,
  real,
  symbol,  // operators and brackets, in `text`
  end
};

struct Token {
  TokenKind kind;
  Position at;
  std::string text = {};  // of strings: with the escapes resolved
};

/// trim_blocks and lstrip_blocks are on, as `transformers` sets them. The last token is `end`.
/// Errors: corrupt with line and column (unclosed tags, strings, comments; unknown characters).
Result<std::vector<Token>> tokenize_template(std::string_view source);

}  // namespace larder::jinja
