// Cutting text into the words within which a byte-level BPE merges.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"

namespace larder {

/// How a family cuts its text: regular expressions applied one after the other, each to every piece
/// that the one before left; what matches and what lies between matches become pieces of their own.
struct PreTokenizerRule {
  std::string_view name;  // GGUF's tokenizer.ggml.pre
  std::vector<std::string_view> patterns;
  bool ignore_merges = false;  // a whole word that is a token is taken at once
  bool nfc = false;            // the text is composed first
};

/// Null when the name is unknown. "" is "default": what llama.cpp does with old files.
const PreTokenizerRule* find_pre_tokenizer(std::string_view name);
/// The rule with exactly these patterns and switches, as they are written in tokenizer.json.
const PreTokenizerRule* find_pre_tokenizer(std::span<const std::string> patterns,
                                           bool ignore_merges, bool nfc);

/// What tokenizer.json calls ByteLevel (with use_regex) and Digits.
std::string_view byte_level_pattern() noexcept;
std::string_view digits_pattern(bool individual) noexcept;

/// Compiled patterns. Immutable; thread-safe.
class PreTokenizer {
 public:
  static Result<PreTokenizer> create(const PreTokenizerRule& rule);
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  /// Replaces `words` by the words of `text`, in order and without gaps. REQUIRES: valid UTF-8.
  void split(std::string_view text, std::vector<std::string_view>& words) const;

 private:
  struct Impl;
  explicit PreTokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace larder
