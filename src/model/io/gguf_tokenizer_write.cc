#include <unordered_map>

#include "base/fail.h"
#include "model/io/gguf.h"
#include "model/io/gguf_tokenizer.h"
#include "model/io/gguf_tokenizer_keys.h"

namespace larder {
namespace {

using namespace gguf_tokenizer;

Result<void> check(const TokenizerData& data) {
  const std::size_t n = data.tokens.size();
  if (n == 0) return fail(Errc::invalid_argument, "the tokenizer to write has no tokens");
  if (!data.types.empty() && data.types.size() != n) {
    return fail(Errc::invalid_argument, "the tokenizer to write has {} types for {} tokens",
                data.types.size(), n);
  }
  if (!data.scores.empty() && data.scores.size() != n) {
    return fail(Errc::invalid_argument, "the tokenizer to write has {} scores for {} tokens",
                data.scores.size(), n);
  }
  return {};
}

/// Readers of the sentencepiece kind know scores only. Where merges decide, a token scores by the
/// rank of the first merge that makes it, which is as near as scores come.
std::vector<float> scores_from_merges(const TokenizerData& data) {
  std::unordered_map<std::string, std::size_t> ranks;
  for (std::size_t rank = 0; rank < data.merges.size(); ++rank) {
    std::string token = data.merges[rank];
    const std::size_t space = token.find(' ', 1);  // the left part is never empty
    if (space != std::string::npos) token.erase(space, 1);
    ranks.emplace(std::move(token), rank);
  }
  std::vector<float> scores(data.tokens.size(), 0);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const auto it = ranks.find(data.tokens[i]);
    if (it != ranks.end()) scores[i] = -static_cast<float>(it->second) - 1;
  }
  return scores;
}

void write_vocabulary(const TokenizerData& data, GgufWriter& writer) {
  const std::size_t n = data.tokens.size();
  const bool sentencepiece = data.kind == TokenizerKind::sentencepiece;
  writer.put(std::string(kModel), GgufType::string, std::string(sentencepiece ? "llama" : "gpt2"));
  if (!data.pre.empty()) writer.put(std::string(kPre), GgufType::string, data.pre);
  writer.put_array(std::string(kTokens), GgufType::string, data.tokens);
  std::vector<std::int64_t> types(n, static_cast<std::int64_t>(TokenType::normal));
  for (std::size_t i = 0; i < data.types.size(); ++i) {
    types[i] = static_cast<std::int64_t>(data.types[i]);
  }
  writer.put_array(std::string(kTypes), GgufType::i32, std::move(types));
  if (sentencepiece) {
    const std::vector<float> scores = data.scores.empty() ? scores_from_merges(data) : data.scores;
    writer.put_array(std::string(kScores), GgufType::f32,
                     std::vector<double>(scores.begin(), scores.end()));
    if (!data.merges.empty()) {
      writer.put_array(std::string(kOwnMerges), GgufType::string, data.merges);
    }
  } else {
    writer.put_array(std::string(kMerges), GgufType::string, data.merges);
  }
}

void write_own_keys(const TokenizerData& data, GgufWriter& writer) {
  const TokenizerData defaults;
  for (const FlagKey& flag : kFlags) {
    if (data.*flag.member != defaults.*flag.member) {
      writer.put(std::string(flag.key), GgufType::boolean, bool{data.*flag.member});
    }
  }
  if (data.added.empty()) return;
  std::vector<std::int64_t> ids, flags;
  std::vector<std::string> texts;
  for (const AddedToken& token : data.added) {
    int bits = 0;
    for (const AddedBit& bit : kAddedBits) bits |= token.*bit.member ? bit.bit : 0;
    ids.push_back(token.id);
    flags.push_back(bits);
    texts.push_back(token.text);
  }
  writer.put_array(std::string(kAddedIds), GgufType::i32, std::move(ids));
  writer.put_array(std::string(kAddedFlags), GgufType::u8, std::move(flags));
  writer.put_array(std::string(kAddedTexts), GgufType::string, std::move(texts));
}

}  // namespace

Result<void> write_tokenizer(const TokenizerData& data, GgufWriter& writer) {
  if (data.kind == TokenizerKind::none) return {};
  LARDER_TRY(check(data));
  write_vocabulary(data, writer);
  for (const IdKey& id : kIds) {
    const TokenId value = data.*id.member;
    const bool has_default =
        data.kind == TokenizerKind::sentencepiece && id.sentencepiece_default != kNoToken;
    if (value == kNoToken && !has_default) continue;
    writer.put(std::string(id.key), GgufType::u32,
               value == kNoToken ? std::uint64_t{kNoId} : static_cast<std::uint64_t>(value));
  }
  writer.put(std::string(kAddBos), GgufType::boolean, bool{data.add_bos});
  writer.put(std::string(kAddEos), GgufType::boolean, bool{data.add_eos});
  writer.put(std::string(kAddSpacePrefix), GgufType::boolean, bool{data.add_space_prefix});
  if (!data.chat_template.empty()) {
    writer.put(std::string(kChatTemplate), GgufType::string, data.chat_template);
  }
  if (data.end_tokens != derive_end_tokens(data, kNoToken)) {
    writer.put_array(std::string(kEndTokens), GgufType::i32,
                     std::vector<std::int64_t>(data.end_tokens.begin(), data.end_tokens.end()));
  }
  write_own_keys(data, writer);
  return {};
}

}  // namespace larder
