// Generated tasks that can only be solved by looking far back.
//
// Wording is that of the trainer's tasks (python/larder_train/data/tasks.py) where the task is the
// same, so that models trained there know what is asked. Tasks that begin with niah, and those of
// words, follow RULER (arXiv:2404.06654) in what has to be done.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "task_filler.h"

namespace larder {

enum class TaskKind : std::uint8_t {
  passkey,            // a number hidden in text
  niah_single,        // the code of one word hidden in text
  niah_multikey,      // the code of one word among those of many words
  niah_multivalue,    // all four codes of one word
  niah_multiquery,    // the codes of four words, asked one after the other
  variable_tracking,  // what a chain of assignments ends in
  common_words,       // the five words of a list that occur ten times as often as the others
  frequent_words      // the three most frequent words of a text of made-up words
};
inline constexpr std::array kTaskNames = {"passkey",         "niah_single",     "niah_multikey",
                                          "niah_multivalue", "niah_multiquery", "variable_tracking",
                                          "common_words",    "frequent_words"};

inline std::string_view task_name(TaskKind kind) {
  return kTaskNames[static_cast<std::size_t>(kind)];
}
/// Errors: invalid_argument, with the names there are.
Result<TaskKind> parse_task(std::string_view name);

struct TaskQuestion {
  std::vector<TokenId> tokens;
  std::vector<std::string> answers;  // one: the reply must begin with it; more: it must hold them
};

struct RetrievalTask {
  std::vector<TokenId> context;         // BOS where the model asks for it, text, what is hidden
  std::vector<TaskQuestion> questions;  // each is asked behind the context alone
  std::uint32_t n_answer_tokens = 0;    // room for the reply
};

struct TaskSize {
  std::uint32_t n_tokens = 0;   // of the context, the longest question and the reply, exactly
  std::optional<double> depth;  // 0..1 of the text that stands before what is asked; empty: random
};

/// Immutable; the tokenizer must outlive it; thread-safe.
class TaskMaker {
 public:
  TaskMaker(const Tokenizer& tokenizer, TaskFiller filler)
      : tokenizer_(&tokenizer), filler_(std::move(filler)), words_(task_words(tokenizer)) {}

  /// The same random state gives the same task. Errors: invalid_argument (a length that the task
  /// does not fit, with what it needs).
  Result<RetrievalTask> make(TaskKind kind, const TaskSize& size, TaskRandom& random) const;

 private:
  /// Part of a context at its place among the text.
  struct Line {
    double depth = 0;
    std::vector<TokenId> tokens;
    bool breaks_before = false;  // begins with a line break of its own
  };
  struct Question {
    std::string text;
    std::vector<std::string> answers;
  };
  /// A task before it gets its length.
  struct Draft {
    std::string hint;
    std::vector<Line> lines;  // by depth
    std::vector<Question> questions;
    std::string reply;  // the longest that is wanted
  };

  Draft passkey(const TaskSize& size, TaskRandom& random) const;
  Draft single_key(const TaskSize& size, TaskRandom& random) const;
  Draft many_keys(const TaskSize& size, TaskRandom& random) const;
  Draft many_values(TaskRandom& random) const;
  Draft many_queries(TaskRandom& random) const;
  Draft variables(TaskRandom& random) const;
  Draft common_words(const TaskSize& size, TaskRandom& random) const;
  Draft frequent_words(const TaskSize& size, TaskRandom& random) const;

  Result<RetrievalTask> compose(TaskKind kind, const Draft& draft, const TaskSize& size,
                                TaskRandom& random) const;
  /// Tokens that are left for lines and text; may be negative.
  std::int64_t room(const Draft& draft, std::uint32_t n_tokens) const;
  Line line(double depth, std::string_view text) const;
  std::vector<TokenId> word_tokens(const std::string& word) const;
  std::vector<std::string> draw_words(std::size_t n, TaskRandom& random) const;
  /// Different numbers that the text does not hold.
  std::vector<std::string> draw_numbers(std::size_t n, std::size_t n_digits,
                                        TaskRandom& random) const;
  const Tokenizer* tokenizer_;
  TaskFiller filler_;
  std::vector<std::string> words_;  // [64 at least]
};

}  // namespace larder
