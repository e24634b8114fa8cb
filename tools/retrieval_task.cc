#include "retrieval_task.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/fail.h"
#include "perplexity.h"

namespace larder {
namespace {

constexpr const char* kPasskeyHint = "There is a pass key hidden in the text below. Remember it.\n";
constexpr const char* kKeyHint = "Remember the code of each word.\n";
constexpr std::size_t kCodeDigits = 4;
constexpr std::size_t kMaxPairs = 64;
constexpr std::uint32_t kReplySlack = 2;  // a model may cut the same text into more tokens

std::string code_line(const std::string& word, const std::string& code) {
  return fmt::format("The code of {} is {}.\n", word, code);
}

std::string code_question(const std::string& word) {
  return fmt::format("The code of {} is", word);
}

void append(std::vector<TokenId>& to, std::span<const TokenId> tokens) {
  to.insert(to.end(), tokens.begin(), tokens.end());
}

std::vector<double> sorted_depths(std::size_t n, TaskRandom& random) {
  std::vector<double> depths(n);
  for (double& depth : depths) depth = random.share();
  std::sort(depths.begin(), depths.end());
  return depths;
}

}  // namespace

Result<TaskKind> parse_task(std::string_view name) {
  for (std::size_t i = 0; i < kTaskNames.size(); ++i) {
    if (name == kTaskNames[i]) return static_cast<TaskKind>(i);
  }
  return fail(Errc::invalid_argument, "'{}' is no task; there are: {}", name,
              fmt::join(kTaskNames, ", "));
}

Result<RetrievalTask> TaskMaker::make(TaskKind kind, const TaskSize& size,
                                      TaskRandom& random) const {
  switch (kind) {
    case TaskKind::passkey:
      return compose(kind, passkey(size, random), size, random);
    case TaskKind::niah_single:
      return compose(kind, single_key(size, random), size, random);
    case TaskKind::niah_multikey:
      return compose(kind, many_keys(size, random), size, random);
    case TaskKind::niah_multivalue:
      return compose(kind, many_values(random), size, random);
    case TaskKind::niah_multiquery:
      return compose(kind, many_queries(random), size, random);
    case TaskKind::variable_tracking:
      return compose(kind, variables(random), size, random);
    case TaskKind::common_words:
      return compose(kind, common_words(size, random), size, random);
    case TaskKind::frequent_words:
      return compose(kind, frequent_words(size, random), size, random);
  }
  return fail(Errc::invalid_argument, "no such task");
}

TaskMaker::Draft TaskMaker::passkey(const TaskSize& size, TaskRandom& random) const {
  const std::string key = draw_numbers(1, 5, random).front();
  Draft draft;
  draft.hint = kPasskeyHint;
  draft.lines = {
      line(size.depth.value_or(random.share()),
           fmt::format("\nThe pass key is {}. Remember it. {} is the pass key.\n", key, key))};
  draft.questions = {{"\nWhat is the pass key? The pass key is", {key}}};
  draft.reply = " " + key;
  return draft;
}

TaskMaker::Draft TaskMaker::single_key(const TaskSize& size, TaskRandom& random) const {
  const std::string word = draw_words(1, random).front();
  const std::string code = draw_numbers(1, kCodeDigits, random).front();
  Draft draft;
  draft.hint = kKeyHint;
  draft.lines = {line(size.depth.value_or(random.share()), code_line(word, code))};
  draft.questions = {{code_question(word), {code}}};
  draft.reply = " " + code;
  return draft;
}

/// As many pairs as fit, at most kMaxPairs, the same distance between them.
TaskMaker::Draft TaskMaker::many_keys(const TaskSize& size, TaskRandom& random) const {
  Draft draft;
  draft.hint = kKeyHint;
  const std::vector<std::string> words = draw_words(kMaxPairs, random);
  const std::vector<std::string> codes = draw_numbers(kMaxPairs, kCodeDigits, random);
  const double share = size.depth.value_or(random.share());
  draft.reply = " " + codes.front();
  for (const std::string& word : words) draft.questions.push_back({code_question(word), {}});
  std::int64_t n_left = room(draft, size.n_tokens);
  std::size_t n = 0;
  for (; n < kMaxPairs; ++n) {
    Line next = line(0, code_line(words[n], codes[n]));
    n_left -= static_cast<std::int64_t>(next.tokens.size());
    if (n > 0 && n_left < 0) break;
    draft.lines.push_back(std::move(next));
  }
  for (std::size_t i = 0; i < n; ++i) {
    draft.lines[i].depth = static_cast<double>(i) / static_cast<double>(n);
  }
  const auto asked = std::min(n - 1, static_cast<std::size_t>(share * static_cast<double>(n)));
  draft.questions = {{code_question(words[asked]), {codes[asked]}}};
  return draft;
}

TaskMaker::Draft TaskMaker::many_values(TaskRandom& random) const {
  const std::string word = draw_words(1, random).front();
  const std::vector<std::string> codes = draw_numbers(4, kCodeDigits, random);
  Draft draft;
  draft.hint = "Remember the codes of each word.\n";
  const std::vector<double> depths = sorted_depths(codes.size(), random);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    draft.lines.push_back(line(depths[i], code_line(word, codes[i])));
  }
  draft.questions = {{fmt::format("The codes of {} are", word), codes}};
  draft.reply = fmt::format(" {} and {}.", fmt::join(codes, ", "), codes.front());
  return draft;
}

TaskMaker::Draft TaskMaker::many_queries(TaskRandom& random) const {
  const std::vector<std::string> words = draw_words(4, random);
  const std::vector<std::string> codes = draw_numbers(words.size(), kCodeDigits, random);
  const std::vector<double> depths = sorted_depths(words.size(), random);
  Draft draft;
  draft.hint = kKeyHint;
  for (std::size_t i = 0; i < words.size(); ++i) {
    draft.lines.push_back(line(depths[i], code_line(words[i], codes[i])));
    draft.questions.push_back({code_question(words[i]), {codes[i]}});
  }
  draft.reply = " " + codes.front();
  return draft;
}

/// Two chains of three assignments in random places.
TaskMaker::Draft TaskMaker::variables(TaskRandom& random) const {
  constexpr std::size_t kChains = 2, kHops = 3;
  const std::vector<std::string> names = draw_words(kChains * kHops, random);
  const std::vector<std::string> values = draw_numbers(kChains, kCodeDigits, random);
  std::vector<std::size_t> turns;
  for (std::size_t i = 0; i < kChains * kHops; ++i) turns.push_back(i % kChains);
  random.shuffle(turns);
  const std::vector<double> depths = sorted_depths(turns.size(), random);
  std::array<std::size_t, kChains> n_met{};
  Draft draft;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const std::size_t chain = turns[i], hop = n_met[chain]++;
    const std::string& is = hop == 0 ? values[chain] : names[chain * kHops + hop - 1];
    draft.lines.push_back(
        line(depths[i], fmt::format("VAR {} = {}.\n", names[chain * kHops + hop], is)));
  }
  const std::size_t asked = random.below(kChains);
  draft.questions = {
      {fmt::format("The value of {} is", names[asked * kHops + kHops - 1]), {values[asked]}}};
  draft.reply = " " + values[asked];
  return draft;
}

std::int64_t TaskMaker::room(const Draft& draft, std::uint32_t n_tokens) const {
  std::size_t n_question = 0;
  for (const Question& question : draft.questions) {
    n_question = std::max(n_question, task_tokens(*tokenizer_, question.text).size());
  }
  std::size_t n_fixed = task_tokens(*tokenizer_, draft.hint).size() + n_question +
                        task_tokens(*tokenizer_, draft.reply).size() + kReplySlack;
  if (begins_with_bos(*tokenizer_)) ++n_fixed;
  for (const Line& one : draft.lines) n_fixed += one.tokens.size();
  return static_cast<std::int64_t>(n_tokens) - static_cast<std::int64_t>(n_fixed);
}

/// Hint, text with the lines at their depths, and the question behind. A line and a question begin
/// a line of their own: the last of the text before them is a line break.
Result<RetrievalTask> TaskMaker::compose(TaskKind kind, const Draft& draft, const TaskSize& size,
                                         TaskRandom& random) const {
  const std::int64_t n_room = room(draft, size.n_tokens);
  if (n_room < 0) {
    return fail(Errc::invalid_argument, "{} tokens are too few for {}: this one needs {}",
                size.n_tokens, task_name(kind), size.n_tokens - n_room);
  }
  const auto n_text = static_cast<std::size_t>(n_room);
  const std::vector<TokenId> text = filler_.draw(random, n_text);
  const std::vector<TokenId> line_break = task_tokens(*tokenizer_, "\n");
  RetrievalTask task;
  if (begins_with_bos(*tokenizer_)) task.context.push_back(tokenizer_->data().bos);
  append(task.context, task_tokens(*tokenizer_, draft.hint));
  std::size_t n_done = 0;
  const auto add_text = [&](std::size_t end, bool breaks) {
    const auto part = std::span(text).subspan(n_done, end - n_done);
    const bool fits = breaks && part.size() > line_break.size();
    append(task.context, part.first(part.size() - (fits ? line_break.size() : 0)));
    if (fits) append(task.context, line_break);
    n_done = end;
  };
  for (const Line& one : draft.lines) {
    const auto end = static_cast<std::size_t>(std::lround(static_cast<double>(n_text) * one.depth));
    add_text(end, !one.breaks_before);
    append(task.context, one.tokens);
  }
  add_text(n_text, !draft.questions.front().text.starts_with("\n"));
  for (const Question& question : draft.questions) {
    task.questions.push_back({task_tokens(*tokenizer_, question.text), question.answers});
  }
  task.n_answer_tokens =
      static_cast<std::uint32_t>(task_tokens(*tokenizer_, draft.reply).size()) + kReplySlack;
  return task;
}

TaskMaker::Line TaskMaker::line(double depth, std::string_view text) const {
  return {depth, task_tokens(*tokenizer_, text), text.starts_with("\n")};
}

std::vector<TokenId> TaskMaker::word_tokens(const std::string& word) const {
  // Tokenizers that put a blank before every text would put a second one.
  return task_tokens(*tokenizer_, tokenizer_->drops_leading_space() ? word : " " + word);
}

std::vector<std::string> TaskMaker::draw_words(std::size_t n, TaskRandom& random) const {
  std::vector<std::string> words = words_;
  for (std::size_t i = 0; i < n; ++i) {
    std::swap(words[i], words[i + random.below(words.size() - i)]);
  }
  words.resize(n);
  return words;
}

std::vector<std::string> TaskMaker::draw_numbers(std::size_t n, std::size_t n_digits,
                                                 TaskRandom& random) const {
  constexpr int kTries = 1000;  // a text that holds most numbers may hold these too
  std::vector<std::string> numbers;
  for (int tries = 0; numbers.size() < n;) {
    std::string number;
    for (std::size_t i = 0; i < n_digits; ++i) number += static_cast<char>('0' + random.below(10));
    const bool taken = std::find(numbers.begin(), numbers.end(), number) != numbers.end();
    if (taken || (++tries < kTries && filler_.contains(number))) continue;
    numbers.push_back(std::move(number));
  }
  return numbers;
}

}  // namespace larder
