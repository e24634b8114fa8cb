// The tasks of RULER that count words.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "retrieval_task.h"

namespace larder {
namespace {

/// A word and how often it stands in the list.
struct Counted {
  std::vector<TokenId> tokens;
  std::size_t n = 0;
};

std::size_t n_tokens(const std::vector<Counted>& list) {
  std::size_t n = 0;
  for (const Counted& word : list) n += word.n * word.tokens.size();
  return n;
}

std::vector<TokenId> shuffled(const std::vector<Counted>& list, TaskRandom& random) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < list.size(); ++i) order.insert(order.end(), list[i].n, i);
  random.shuffle(order);
  std::vector<TokenId> tokens;
  for (const std::size_t i : order) {
    tokens.insert(tokens.end(), list[i].tokens.begin(), list[i].tokens.end());
  }
  return tokens;
}

/// "balomi": syllables of a consonant and a vowel.
std::string made_up_word(TaskRandom& random) {
  constexpr std::string_view kConsonants = "bdfgklmnprstvz", kVowels = "aeiou";
  std::string word;
  for (int i = 0; i < 3; ++i) {
    word += kConsonants[random.below(kConsonants.size())];
    word += kVowels[random.below(kVowels.size())];
  }
  return word;
}

}  // namespace

/// Five words ten times as often as fifty others; as many rounds of that as fit. Below one round
/// the others stand there once, and the five as often as fits.
TaskMaker::Draft TaskMaker::common_words(const TaskSize& size, TaskRandom& random) const {
  constexpr std::size_t kCommon = 5, kOthers = 50, kTimes = 10, kLeastTimes = 3;
  const std::vector<std::string> words = draw_words(kCommon + kOthers, random);
  const std::vector<std::string> common(words.begin(), words.begin() + kCommon);
  Draft draft;
  draft.hint = "Remember which words of the list occur most often.\n";
  draft.questions = {{fmt::format("The {} words that occur most often are", kCommon), common}};
  draft.reply = fmt::format(" {} and {}.", fmt::join(common, ", "), common.front());
  const std::int64_t n_room = room(draft, size.n_tokens);
  std::vector<Counted> list;
  const auto fill = [&](std::size_t n_common, std::size_t n_others) {
    for (std::size_t i = 0; i < list.size(); ++i) list[i].n = i < kCommon ? n_common : n_others;
    return static_cast<std::int64_t>(n_tokens(list)) <= n_room;
  };
  for (const std::string& word : words) list.push_back({word_tokens(word), 0});
  std::size_t n_rounds = 1;
  while (fill(kTimes * (n_rounds + 1), n_rounds + 1)) ++n_rounds;
  std::size_t n_times = kTimes;
  if (!fill(kTimes * n_rounds, n_rounds)) {
    while (n_times > kLeastTimes && !fill(n_times, 1)) --n_times;
    fill(n_times, 1);
  }
  draft.lines = {{1.0, shuffled(list, random), false}};
  return draft;
}

/// Counts fall with the square of the rank (a zeta distribution, as in RULER).
TaskMaker::Draft TaskMaker::frequent_words(const TaskSize& size, TaskRandom& random) const {
  constexpr std::size_t kWords = 20, kAsked = 3, kLeast = 20;
  std::vector<std::string> words;
  while (words.size() < kWords) {
    std::string word = made_up_word(random);
    if (std::find(words.begin(), words.end(), word) == words.end()) words.push_back(word);
  }
  const std::vector<std::string> asked(words.begin(), words.begin() + kAsked);
  Draft draft;
  draft.hint = "Remember which words of the text occur most often.\n";
  draft.questions = {{fmt::format("The {} words that occur most often are", kAsked), asked}};
  draft.reply = fmt::format(" {} and {}.", fmt::join(asked, ", "), asked.front());
  const std::int64_t n_room = room(draft, size.n_tokens);
  std::vector<Counted> list;
  for (const std::string& word : words) list.push_back({word_tokens(word), 0});
  const auto fill = [&](std::size_t n_first) {
    for (std::size_t i = 0; i < kWords; ++i) {
      const auto rank = static_cast<double>(i + 1);
      list[i].n = static_cast<std::size_t>(
          std::max(1.0, std::round(static_cast<double>(n_first) / (rank * rank))));
    }
    list[kAsked].n = std::min(list[kAsked].n, list[kAsked - 1].n - 1);  // never as often
    for (std::size_t i = kAsked + 1; i < kWords; ++i)
      list[i].n = std::min(list[i].n, list[kAsked].n);
    return static_cast<std::int64_t>(n_tokens(list)) <= n_room;
  };
  std::size_t n_first = kLeast;
  while (fill(n_first + 1)) ++n_first;
  fill(n_first);
  // Short of room, rare words go first.
  while (static_cast<std::int64_t>(n_tokens(list)) > n_room && list.size() > kAsked + 1) {
    list.pop_back();
  }
  draft.lines = {{1.0, shuffled(list, random), false}};
  return draft;
}

}  // namespace larder
