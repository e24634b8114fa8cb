// A vocabulary and the rules around it, as read from any file kind: plain data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/block_id.h"

namespace larder {

enum class TokenizerKind : std::uint8_t {
  none,           // no tokenizer in the file
  sentencepiece,  // text with U+2581 for spaces, merged by score (GGUF "llama")
  byte_bpe        // bytes mapped to printable characters, merged by rank (GGUF "gpt2")
};

/// GGUF's tokenizer.ggml.token_type.
enum class TokenType : std::uint8_t {
  normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6
};

inline constexpr TokenId kNoToken = -1;

struct TokenizerData {
  TokenizerKind kind = TokenizerKind::none;
  std::vector<std::string> tokens;   // [n_vocab] piece of each id (byte_bpe: in the printable alphabet)
  std::vector<float> scores;         // sentencepiece: [n_vocab] or empty
  std::vector<TokenType> types;      // [n_vocab]; control and user_defined are matched in the text
  /// Merges as "left right", best first. byte_bpe: required. sentencepiece: when present (Hugging Face
  /// BPE with byte fallback, Gemma) they decide instead of the scores.
  std::vector<std::string> merges;
  std::string pre;                   // GGUF's tokenizer.ggml.pre: "llama-bpe", "qwen2", "gpt-2", ...
  TokenId bos = kNoToken, eos = kNoToken, unk = kNoToken, pad = kNoToken, eot = kNoToken;
  std::vector<TokenId> end_tokens;   // everything that ends a generation (eos, eot, generation_config)
  bool add_bos = false, add_eos = false;
  bool add_space_prefix = true;      // sentencepiece: text gets a leading space
  bool byte_fallback = true;         // sentencepiece: unknown characters become <0xNN> pieces
  bool ignore_merges = false;        // byte_bpe: a whole word that is a token is taken at once (Llama 3)
  std::string chat_template;         // Jinja source; empty: none
};

}  // namespace larder
