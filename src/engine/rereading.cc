#include "engine/rereading.h"

#include <algorithm>
#include <string_view>

#include "base/check.h"

namespace larder {
namespace {

constexpr std::string_view kFirst = "\n\nOnce more, the text above, word for word:\n\n";
constexpr std::string_view kLater =
    "\n\nOnce more, word for word, the part of the text above that goes on from here: ";
constexpr std::uint32_t kMaxTextTokens = 64;  // what a poor vocabulary makes of them beyond is cut
constexpr std::uint32_t kTail = 8;            // tokens of the part before, as the authors have it

std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view text,
                            std::uint32_t n_vocab) {
  std::vector<TokenId> ids = tokenizer.encode(text, {.add_special = false, .parse_special = false});
  std::erase_if(
      ids, [n_vocab](TokenId id) { return id < 0 || static_cast<std::uint32_t>(id) >= n_vocab; });
  ids.resize(std::min<std::size_t>(ids.size(), kMaxTextTokens));
  return ids;
}

}  // namespace

RereadTexts make_reread_texts(const Tokenizer& tokenizer, std::uint32_t n_vocab) {
  return {encode(tokenizer, kFirst, n_vocab), encode(tokenizer, kLater, n_vocab)};
}

std::vector<TokenId> reread_tokens(const RereadTexts& texts, std::span<const TokenId> text,
                                   std::uint32_t n_done, std::uint32_t n_chunk) {
  LARDER_CHECK(n_done < text.size() && n_chunk > 0);
  std::vector<TokenId> tokens = n_done == 0 ? texts.first : texts.later;
  const auto before = text.first(n_done);
  const auto tail = before.last(std::min<std::size_t>(before.size(), kTail));
  tokens.insert(tokens.end(), tail.begin(), tail.end());
  const auto rest = text.subspan(n_done);
  const auto chunk = rest.first(std::min<std::size_t>(rest.size(), n_chunk));
  tokens.insert(tokens.end(), chunk.begin(), chunk.end());
  return tokens;
}

std::uint32_t max_reread_rows(std::uint32_t n_chunk, std::uint32_t n_context,
                              std::uint32_t block_tokens) noexcept {
  if (n_chunk == 0) return 0;
  // Of blocks, one that is copied because the text's rows are in it, and one that is begun.
  return std::min(n_chunk, n_context) + kMaxTextTokens + kTail + 2 * block_tokens;
}

}  // namespace larder
