#include "model/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/fail.h"
#include "model/text/tokenizer_segments.h"
#include "model/text/unicode.h"

namespace larder {
namespace {

constexpr std::size_t kMaxTokens = std::size_t{1} << 22;  // the largest real ones have 2^18
constexpr std::size_t kMaxMerges = std::size_t{1} << 23;
constexpr std::size_t kMaxTokenBytes = std::size_t{1} << 16;
constexpr std::size_t kMaxAddedBytes = 512;  // matching costs up to this per byte of text

// Files often name only one of the tokens that end a turn; a chat would run on past the others.
constexpr std::array<std::string_view, 6> kTurnEnds = {
    "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>"};

Result<void> check_id(std::string_view field, TokenId id, std::size_t n_vocab) {
  if (id < kNoToken || (id != kNoToken && static_cast<std::size_t>(id) >= n_vocab)) {
    return fail(Errc::corrupt, "tokenizer: {} is {}, but the vocabulary has {} tokens", field, id,
                n_vocab);
  }
  return {};
}

Result<void> check_counts(const TokenizerData& data) {
  const std::size_t n = data.tokens.size();
  if (n == 0 || n > kMaxTokens) {
    return fail(Errc::corrupt, "tokenizer: {} tokens; supported are 1 to {}", n, kMaxTokens);
  }
  if (!data.types.empty() && data.types.size() != n) {
    return fail(Errc::corrupt, "tokenizer: {} token types for {} tokens", data.types.size(), n);
  }
  if (!data.scores.empty() && data.scores.size() != n) {
    return fail(Errc::corrupt, "tokenizer: {} scores for {} tokens", data.scores.size(), n);
  }
  if (data.merges.size() > kMaxMerges) {
    return fail(Errc::corrupt, "tokenizer: {} merges; at most {} are supported", data.merges.size(),
                kMaxMerges);
  }
  for (std::size_t id = 0; id < n; ++id) {
    if (data.tokens[id].size() > kMaxTokenBytes) {
      return fail(Errc::corrupt, "tokenizer: token {} has {} bytes; at most {} are supported", id,
                  data.tokens[id].size(), kMaxTokenBytes);
    }
    if (!data.scores.empty() && std::isnan(data.scores[id])) {
      return fail(Errc::corrupt, "tokenizer: the score of token {} is not a number", id);
    }
  }
  return {};
}

Result<void> check(const TokenizerData& data) {
  LARDER_TRY(check_counts(data));
  const std::size_t n = data.tokens.size();
  LARDER_TRY(check_id("bos", data.bos, n));
  LARDER_TRY(check_id("eos", data.eos, n));
  LARDER_TRY(check_id("unk", data.unk, n));
  LARDER_TRY(check_id("pad", data.pad, n));
  LARDER_TRY(check_id("eot", data.eot, n));
  for (const TokenId id : data.end_tokens) LARDER_TRY(check_id("an end token", id, n));
  for (const AddedToken& token : data.added) {
    LARDER_TRY(check_id("an added token's id", token.id, n));
    if (token.id == kNoToken || token.text.empty() || !is_valid_utf8(token.text)) {
      return fail(Errc::corrupt, "tokenizer: added token {} has no id or no text", token.id);
    }
    if (token.text.size() > kMaxAddedBytes) {
      return fail(Errc::corrupt, "tokenizer: added token {} has {} bytes; at most {} are supported",
                  token.id, token.text.size(), kMaxAddedBytes);
    }
  }
  return {};
}

/// What follows from the other fields. An absent list of added tokens means what it means in GGUF.
void complete(TokenizerData& data) {
  if (data.types.empty()) data.types.assign(data.tokens.size(), TokenType::normal);
  const bool derive_added = data.added.empty();
  for (std::size_t i = 0; i < data.tokens.size(); ++i) {
    const TokenType type = data.types[i];
    if (type != TokenType::control && type != TokenType::user_defined &&
        type != TokenType::unknown) {
      continue;
    }
    const auto id = static_cast<TokenId>(i);
    const std::string& text = data.tokens[i];
    if (derive_added && !text.empty() && text.size() <= kMaxAddedBytes && is_valid_utf8(text)) {
      data.added.push_back({.id = id, .text = text});
    }
    if (std::find(kTurnEnds.begin(), kTurnEnds.end(), text) != kTurnEnds.end()) {
      data.end_tokens.push_back(id);
    }
  }
  if (data.eos != kNoToken) data.end_tokens.push_back(data.eos);
  if (data.eot != kNoToken) data.end_tokens.push_back(data.eot);
  std::sort(data.end_tokens.begin(), data.end_tokens.end());
  data.end_tokens.erase(std::unique(data.end_tokens.begin(), data.end_tokens.end()),
                        data.end_tokens.end());
  std::erase(data.end_tokens, kNoToken);
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::create(TokenizerData data) {
  LARDER_TRY(check(data));
  complete(data);
  switch (data.kind) {
    case TokenizerKind::byte_bpe:
      return create_byte_bpe_tokenizer(std::move(data));
    case TokenizerKind::sentencepiece:
      return create_sentencepiece_tokenizer(std::move(data));
    case TokenizerKind::none:
      break;
  }
  return fail(Errc::unsupported, "tokenizer: the model file has none");
}

bool Tokenizer::ends_generation(TokenId id) const noexcept {
  return std::binary_search(data_.end_tokens.begin(), data_.end_tokens.end(), id);
}

}  // namespace larder
