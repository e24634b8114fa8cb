// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"
#include "model/text/tokenizer_data.h"

namespace larder {

struct EncodeOptions {
  bool add_special = true;  // BOS and EOS as the model's file asks
  bool parse_special =
      true;  // "<|im_end|>" in the text becomes its token; false for untrusted text
};

/// Immutable after creation; thread-safe.
class Tokenizer {
 public:
  /// Takes the data over, fills in what follows from it (types, added, end_tokens). Errors: corrupt
  /// (counts, ids out of range, merges that name no token), unsupported (no or an unknown
  /// pre-tokenizer).
  static Result<std::unique_ptr<Tokenizer>> create(TokenizerData data);
  virtual ~Tokenizer() = default;

  /// Never fails: invalid UTF-8 bytes become U+FFFD as the `tokenizers` library does.
  virtual std::vector<TokenId> encode(std::string_view text,
                                      const EncodeOptions& options) const = 0;
  /// Bytes that the token adds to the text (may be half a character); empty for control tokens
  /// unless `special`. Ids out of range give an empty string.
  virtual std::string piece(TokenId id, bool special) const = 0;
  /// The text of a whole sequence, with the leading-space rule applied, as `tokenizers` decodes it;
  /// bytes that are no UTF-8 become U+FFFD.
  virtual std::string decode(std::span<const TokenId> ids, bool special) const = 0;

  const TokenizerData& data() const noexcept { return data_; }
  std::uint32_t n_vocab() const noexcept { return static_cast<std::uint32_t>(data_.tokens.size()); }
  bool ends_generation(TokenId id) const noexcept;
  /// Whether encoding puts a space before the text, which decoding takes away again.
  bool drops_leading_space() const noexcept {
    return data_.kind == TokenizerKind::sentencepiece && data_.add_space_prefix;
  }

 protected:
  explicit Tokenizer(TokenizerData data) : data_(std::move(data)) {}
  TokenizerData data_;
};

/// Turns a stream of tokens into text that is valid UTF-8 at every point: bytes of an unfinished
/// character are held back until it is complete; bytes that can never be valid become U+FFFD.
class StreamDecoder {
 public:
  /// `at_start`: the stream begins the text (its leading space is dropped, where the model adds
  /// one).
  explicit StreamDecoder(const Tokenizer& tokenizer, bool at_start = false)
      : tokenizer_(&tokenizer), at_start_(at_start) {}
  std::string push(TokenId id);
  /// What is still held back, made valid.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool at_start_;
  std::string held_;
};

}  // namespace larder
