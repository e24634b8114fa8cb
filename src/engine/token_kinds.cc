#include "engine/token_kinds.h"

#include <algorithm>
#include <string>
#include <string_view>

namespace larder {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";
constexpr std::string_view kSigns = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";  // of ASCII

bool is_punctuation(std::string_view text) {
  return text.find_first_of(kSigns) != std::string_view::npos &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return kSigns.find(c) != std::string_view::npos ||
                  kBlanks.find(c) != std::string_view::npos;
         });
}

bool is_special(const TokenizerData& data, TokenId id) {
  const TokenType type = data.types[static_cast<std::size_t>(id)];
  return type == TokenType::control || type == TokenType::unknown || id == data.bos ||
         id == data.eos || id == data.eot || id == data.pad;
}

}  // namespace

std::vector<TokenKind> token_kinds(const Tokenizer& tokenizer, std::uint32_t n_vocab) {
  std::vector<TokenKind> kinds(n_vocab, TokenKind::plain);
  const std::uint32_t n_known = std::min(n_vocab, tokenizer.n_vocab());
  for (std::uint32_t i = 0; i < n_known; ++i) {
    const auto id = static_cast<TokenId>(i);
    if (is_special(tokenizer.data(), id)) {
      kinds[i] = TokenKind::special;
    } else if (is_punctuation(tokenizer.piece(id, false))) {
      kinds[i] = TokenKind::punctuation;
    }
  }
  return kinds;
}

}  // namespace larder
