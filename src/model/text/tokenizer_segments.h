// What all tokenizers share: cutting added tokens out, BOS and EOS, and joining pieces again.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/text/tokenizer.h"
#include "model/text/tokenizer_added.h"

namespace larder {

/// A tokenizer whose text between added tokens is normalised, then turned into tokens.
class SegmentTokenizer : public Tokenizer {
 public:
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const final;
  std::string decode(std::span<const TokenId> ids, bool special) const final;

 protected:
  /// REQUIRES: `data` has passed the checks of Tokenizer::create.
  explicit SegmentTokenizer(TokenizerData data);

 private:
  /// `at_start`: the segment begins the text. `text` is valid UTF-8, not empty; so is the result,
  /// unless it is empty.
  virtual std::string normalize(std::string_view text, bool at_start) const = 0;
  virtual void append_tokens(std::string_view text, std::vector<TokenId>& out) const = 0;

  AddedTokens before_;  // matched in the text as it came
  AddedTokens after_;   // matched after normalisation
};

/// REQUIRES of both: `data` has passed the common checks of Tokenizer::create.
Result<std::unique_ptr<Tokenizer>> create_byte_bpe_tokenizer(TokenizerData data);
Result<std::unique_ptr<Tokenizer>> create_sentencepiece_tokenizer(TokenizerData data);

}  // namespace larder
