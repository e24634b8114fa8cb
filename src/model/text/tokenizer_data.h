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
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

inline constexpr TokenId kNoToken = -1;

/// A token that is cut out of the text before anything is split or merged (longest match first).
struct AddedToken {
  TokenId id = kNoToken;
  std::string text;         // what is matched
  bool normalized = false;  // matched after normalisation (spaces are U+2581 by then), not before
  bool lstrip = false;      // swallows the white space before it
  bool rstrip = false;      // swallows the white space after it
};

struct TokenizerData {
  TokenizerKind kind = TokenizerKind::none;
  std::vector<std::string>
      tokens;                    // [n_vocab] piece of each id (byte_bpe: in the printable alphabet)
  std::vector<float> scores;     // sentencepiece: [n_vocab] or empty
  std::vector<TokenType> types;  // [n_vocab]; control and user_defined are matched in the text
  /// Merges as "left right", best first. byte_bpe: required. sentencepiece: when present (Hugging
  /// Face BPE with byte fallback, Gemma) they decide instead of the scores.
  std::vector<std::string> merges;
  std::string pre;  // GGUF's tokenizer.ggml.pre: "llama-bpe", "qwen2", "gpt-2", ...
  TokenId bos = kNoToken, eos = kNoToken, unk = kNoToken, pad = kNoToken, eot = kNoToken;
  std::vector<TokenId>
      end_tokens;  // everything that ends a generation (eos, eot, generation_config)
  bool add_bos = false, add_eos = false;
  bool add_space_prefix = true;  // sentencepiece: text gets a leading space
  bool byte_fallback = true;     // sentencepiece: unknown characters become <0xNN> pieces
  bool ignore_merges = false;  // byte_bpe: a whole word that is a token is taken at once (Llama 3)
  // What GGUF cannot say; the defaults are what its readers do.
  std::vector<AddedToken> added;   // empty: every control, unknown and user_defined token as it is
  bool prefix_first_only = false;  // sentencepiece: no leading space after an added token
  bool prefix_unless_space =
      false;  // sentencepiece: no second space before a text that begins with one
  bool split_at_spaces = false;    // sentencepiece: no merge crosses the beginning of a U+2581
  bool trim_spaces = false;        // sentencepiece: outer spaces dropped, runs of spaces become one
  bool fuse_unk = true;            // neighbouring unknown characters become one `unk`
  bool byte_space_prefix = false;  // byte_bpe: text that does not begin with a space gets one
  bool nfc = false;                // text is composed first; implied by pre "qwen2" and "olmo"
  std::string chat_template;       // Jinja source; empty: none
};

}  // namespace larder
