// Text in which the tasks of `larder eval` hide what they will ask for, and words to ask about.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/text/tokenizer.h"
#include "task_random.h"

namespace larder {

/// Plain sentences without digits, made of a small vocabulary; the same every time.
std::string embedded_filler();

/// The text of a file as far as the tasks use it, or `embedded_filler` for no path. Errors:
/// those of reading; invalid_argument for an empty file.
Result<std::string> task_filler_text(const std::string& path);

/// Tokens of ordinary text. Immutable; thread-safe.
class TaskFiller {
 public:
  /// Errors: invalid_argument (a text without tokens).
  static Result<TaskFiller> create(const Tokenizer& tokenizer, std::string text);

  /// `n` tokens from a random place on, the beginning following on the end.
  std::vector<TokenId> draw(TaskRandom& random, std::size_t n) const;
  bool contains(std::string_view text) const { return text_.find(text) != std::string::npos; }

 private:
  TaskFiller(std::string text, std::vector<TokenId> tokens)
      : text_(std::move(text)), tokens_(std::move(tokens)) {}
  std::string text_;
  std::vector<TokenId> tokens_;  // not empty
};

/// Lower-case words of four letters or more that are one token with the blank before them, in order
/// of their ids; a list of our own where the vocabulary has fewer than 64.
std::vector<std::string> task_words(const Tokenizer& tokenizer);

/// Tokens of a text taken literally, without BOS or EOS.
std::vector<TokenId> task_tokens(const Tokenizer& tokenizer, std::string_view text);

}  // namespace larder
