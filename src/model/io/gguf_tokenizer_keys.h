// Names and defaults that reading and writing a tokenizer in GGUF share.
#pragma once

#include <algorithm>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "model/text/tokenizer_data.h"

namespace larder::gguf_tokenizer {

inline constexpr std::string_view kModel = "tokenizer.ggml.model";
inline constexpr std::string_view kPre = "tokenizer.ggml.pre";
inline constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
inline constexpr std::string_view kScores = "tokenizer.ggml.scores";
inline constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
inline constexpr std::string_view kMerges = "tokenizer.ggml.merges";
inline constexpr std::string_view kAddBos = "tokenizer.ggml.add_bos_token";
inline constexpr std::string_view kAddEos = "tokenizer.ggml.add_eos_token";
inline constexpr std::string_view kAddSpacePrefix = "tokenizer.ggml.add_space_prefix";
inline constexpr std::string_view kEom = "tokenizer.ggml.eom_token_id";
inline constexpr std::string_view kChatTemplate = "tokenizer.chat_template";
/// Merges that decide in a sentencepiece vocabulary. Not GGUF's key: many files carry merges there
/// beside the scores, which decide for every other reader.
inline constexpr std::string_view kOwnMerges = "larder.tokenizer.merges";
inline constexpr std::string_view kEndTokens = "larder.tokenizer.end_tokens";
inline constexpr std::string_view kAddedIds = "larder.tokenizer.added.ids";
inline constexpr std::string_view kAddedTexts = "larder.tokenizer.added.texts";
inline constexpr std::string_view kAddedFlags = "larder.tokenizer.added.flags";

/// An id that says "this model has none", where leaving the key out would mean a default.
inline constexpr std::uint32_t kNoId = 0xffffffffU;

struct IdKey {
  std::string_view key;
  TokenId TokenizerData::*member;
  TokenId sentencepiece_default;
};
inline constexpr IdKey kIds[] = {
    {"tokenizer.ggml.bos_token_id", &TokenizerData::bos, 1},
    {"tokenizer.ggml.eos_token_id", &TokenizerData::eos, 2},
    {"tokenizer.ggml.unknown_token_id", &TokenizerData::unk, 0},
    {"tokenizer.ggml.padding_token_id", &TokenizerData::pad, kNoToken},
    {"tokenizer.ggml.eot_token_id", &TokenizerData::eot, kNoToken},
};

/// Switches without a key in GGUF; written when they differ from the default.
struct FlagKey {
  std::string_view key;
  bool TokenizerData::*member;
};
inline constexpr FlagKey kFlags[] = {
    {"larder.tokenizer.byte_fallback", &TokenizerData::byte_fallback},
    {"larder.tokenizer.ignore_merges", &TokenizerData::ignore_merges},
    {"larder.tokenizer.prefix_first_only", &TokenizerData::prefix_first_only},
    {"larder.tokenizer.prefix_unless_space", &TokenizerData::prefix_unless_space},
    {"larder.tokenizer.split_at_spaces", &TokenizerData::split_at_spaces},
    {"larder.tokenizer.trim_spaces", &TokenizerData::trim_spaces},
    {"larder.tokenizer.fuse_unk", &TokenizerData::fuse_unk},
    {"larder.tokenizer.byte_space_prefix", &TokenizerData::byte_space_prefix},
    {"larder.tokenizer.nfc", &TokenizerData::nfc},
};

/// Bits of `kAddedFlags`.
struct AddedBit {
  int bit;
  bool AddedToken::*member;
};
inline constexpr AddedBit kAddedBits[] = {
    {1, &AddedToken::normalized}, {2, &AddedToken::lstrip}, {4, &AddedToken::rstrip}};

/// Whether llama.cpp adds BOS when the file does not say.
inline bool adds_bos_by_default(TokenizerKind kind, std::string_view pre) {
  if (kind == TokenizerKind::sentencepiece) return true;
  constexpr std::string_view kPres[] = {"llama3",  "llama-v3", "llama-bpe", "falcon3", "falcon-h1",
                                        "pixtral", "midm-2.0", "lfm2",      "tekken",  "chameleon"};
  return std::find(std::begin(kPres), std::end(kPres), pre) != std::end(kPres);
}

/// Ids that end a generation, in order: the named ones, and those whose text says so, for which
/// GGUF has no list (the texts are llama.cpp's).
inline std::vector<TokenId> derive_end_tokens(const TokenizerData& data, TokenId eom) {
  static const std::unordered_set<std::string_view> kTexts = {
      "<|eot_id|>",    "<|im_end|>", "<|end|>",      "<end_of_turn>",
      "<|endoftext|>", "<|eom_id|>", "<EOT>",        "_<EOT>",
      "[EOT]",         "[EOS]",      "</s>",         "<|end_of_text|>",
      "<eos>",         "<|return|>", "<|call|>",     "<end_of_utterance>",
      "<|fim_pad|>",   "<fim-pad>",  "<fim_pad>",    "<|fim_repo|>",
      "<|repo_name|>", "<fim-repo>", "<|file_sep|>", "<\uff5cend\u2581of\u2581sentence\uff5c>"};
  std::vector<TokenId> ids;
  for (const TokenId id : {data.eos, data.eot, eom}) {
    if (id != kNoToken) ids.push_back(id);
  }
  for (std::size_t i = 0; i < data.tokens.size(); ++i) {
    if (kTexts.contains(data.tokens[i])) ids.push_back(static_cast<TokenId>(i));
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace larder::gguf_tokenizer
