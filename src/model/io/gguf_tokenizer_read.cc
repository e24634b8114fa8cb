#include <cmath>
#include <limits>

#include "base/fail.h"
#include "model/io/gguf.h"
#include "model/io/gguf_cursor.h"
#include "model/io/gguf_tokenizer.h"
#include "model/io/gguf_tokenizer_keys.h"

namespace larder {
namespace {

using namespace gguf_tokenizer;

Result<void> check_count(const GgufMetadata& m, std::string_view key, std::size_t n,
                         std::size_t n_tokens) {
  if (n == n_tokens) return {};
  return fail(Errc::corrupt, "{}: '{}' has {} entries for {} tokens", m.origin(), key, n, n_tokens);
}

Result<TokenId> read_id(const GgufMetadata& m, std::string_view key, std::size_t n_tokens,
                        TokenId absent) {
  const GgufValue* value = m.find(key);
  if (value == nullptr) {
    return absent < 0 || static_cast<std::size_t>(absent) >= n_tokens ? kNoToken : absent;
  }
  if (const auto* i = std::get_if<std::int64_t>(value); i != nullptr && *i == -1) return kNoToken;
  LARDER_ASSIGN(const auto id, m.u32(key));
  if (id == kNoId) return kNoToken;
  if (id >= n_tokens || id > std::numeric_limits<TokenId>::max()) {
    return fail(Errc::corrupt, "{}: '{}' = {} is beyond the {} tokens", m.origin(), key, id,
                n_tokens);
  }
  return static_cast<TokenId>(id);
}

Result<TokenizerKind> read_kind(const GgufMetadata& m) {
  LARDER_ASSIGN(const auto model, m.string_or(kModel, "none"));
  if (model == "llama") return TokenizerKind::sentencepiece;
  if (model == "gpt2") return TokenizerKind::byte_bpe;
  if (model == "none" || model == "no_vocab") return TokenizerKind::none;
  return fail(Errc::unsupported, "{}: {} = '{}', supported are llama and gpt2", m.origin(), kModel,
              printable(model));
}

Result<void> read_scores(const GgufMetadata& m, TokenizerData& data) {
  if (!m.has(kScores)) return {};
  LARDER_ASSIGN(const auto scores, m.floats(kScores));
  LARDER_TRY(check_count(m, kScores, scores.size(), data.tokens.size()));
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (std::isnan(scores[i])) {
      return fail(Errc::corrupt, "{}: '{}': entry {} is not a number", m.origin(), kScores, i);
    }
    data.scores.push_back(static_cast<float>(scores[i]));
  }
  return {};
}

Result<void> read_vocabulary(const GgufMetadata& m, TokenizerData& data) {
  LARDER_ASSIGN(data.tokens, m.strings(kTokens));
  const std::size_t n = data.tokens.size();
  if (n == 0) return fail(Errc::corrupt, "{}: '{}' is missing or empty", m.origin(), kTokens);
  LARDER_ASSIGN(const auto types, m.ints(kTypes));
  if (m.has(kTypes)) LARDER_TRY(check_count(m, kTypes, types.size(), n));
  data.types.assign(n, TokenType::normal);
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (types[i] < 0 || types[i] > static_cast<int>(TokenType::byte)) {
      return fail(Errc::corrupt, "{}: '{}': entry {} = {} is no token type", m.origin(), kTypes, i,
                  types[i]);
    }
    if (types[i] != 0) data.types[i] = static_cast<TokenType>(types[i]);  // 0 is "undefined"
  }
  const bool sentencepiece = data.kind == TokenizerKind::sentencepiece;
  LARDER_ASSIGN(data.merges, m.strings(sentencepiece ? kOwnMerges : kMerges));
  if (!sentencepiece && !m.has(kMerges)) {
    return fail(Errc::corrupt, "{}: '{}' is missing", m.origin(), kMerges);
  }
  if (sentencepiece && data.merges.empty()) return read_scores(m, data);
  return {};
}

/// The ids of an array; every one within the vocabulary.
Result<std::vector<TokenId>> read_ids(const GgufMetadata& m, std::string_view key,
                                      std::size_t n_tokens) {
  LARDER_ASSIGN(const auto values, m.ints(key));
  std::vector<TokenId> ids;
  for (const std::int64_t id : values) {
    if (id < 0 || static_cast<std::uint64_t>(id) >= n_tokens) {
      return fail(Errc::corrupt, "{}: '{}': id {} is beyond the {} tokens", m.origin(), key, id,
                  n_tokens);
    }
    ids.push_back(static_cast<TokenId>(id));
  }
  return ids;
}

Result<void> read_own_keys(const GgufMetadata& m, TokenizerData& data) {
  for (const FlagKey& flag : kFlags) {
    LARDER_ASSIGN(data.*flag.member, m.bool_or(flag.key, data.*flag.member));
  }
  LARDER_ASSIGN(const auto ids, read_ids(m, kAddedIds, data.tokens.size()));
  LARDER_ASSIGN(auto texts, m.strings(kAddedTexts));
  LARDER_ASSIGN(const auto flags, m.ints(kAddedFlags));
  if (texts.size() != ids.size() || flags.size() != ids.size()) {
    return fail(Errc::corrupt, "{}: 'larder.tokenizer.added': {} ids, {} texts, {} flags",
                m.origin(), ids.size(), texts.size(), flags.size());
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    AddedToken token;
    token.id = ids[i];
    token.text = std::move(texts[i]);
    for (const AddedBit& bit : kAddedBits) token.*bit.member = (flags[i] & bit.bit) != 0;
    data.added.push_back(std::move(token));
  }
  return {};
}

}  // namespace

Result<TokenizerData> read_tokenizer(const GgufMetadata& metadata) {
  const GgufMetadata& m = metadata;
  TokenizerData data;
  LARDER_ASSIGN(data.kind, read_kind(m));
  if (data.kind == TokenizerKind::none) return data;
  const bool sentencepiece = data.kind == TokenizerKind::sentencepiece;
  LARDER_TRY(read_vocabulary(m, data));
  const std::size_t n = data.tokens.size();
  LARDER_ASSIGN(data.pre, m.string_or(kPre, ""));
  for (const IdKey& id : kIds) {
    const TokenId absent = sentencepiece ? id.sentencepiece_default : kNoToken;
    LARDER_ASSIGN(data.*id.member, read_id(m, id.key, n, absent));
  }
  LARDER_ASSIGN(data.add_bos, m.bool_or(kAddBos, adds_bos_by_default(data.kind, data.pre)));
  LARDER_ASSIGN(data.add_eos, m.bool_or(kAddEos, false));
  LARDER_ASSIGN(data.add_space_prefix, m.bool_or(kAddSpacePrefix, sentencepiece));
  LARDER_ASSIGN(data.chat_template, m.string_or(kChatTemplate, ""));
  LARDER_ASSIGN(const auto eom, read_id(m, kEom, n, kNoToken));
  if (m.has(kEndTokens)) {
    LARDER_ASSIGN(data.end_tokens, read_ids(m, kEndTokens, n));
  } else {
    data.end_tokens = derive_end_tokens(data, eom);
  }
  LARDER_TRY(read_own_keys(m, data));
  return data;
}

}  // namespace larder
