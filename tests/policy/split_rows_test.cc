#include "policy/split_rows.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

namespace larder {
namespace {

std::vector<std::uint32_t> split(const std::vector<std::vector<float>>& scores,
                                 ProtectedRows protect, const HeadBudget& budget) {
  std::vector<std::span<const float>> views(scores.begin(), scores.end());
  std::vector<std::uint32_t> counts(scores.size());
  split_rows(views, protect, budget, counts);
  return counts;
}

TEST(SplitRows, GivesRowsToTheHeadsThatHaveTheBest) {
  const std::vector<std::vector<float>> scores = {{9, 1, 2, 3, 4, 9}, {0, 8, 7, 6, 5, 0}};
  using Counts = std::vector<std::uint32_t>;
  EXPECT_EQ(split(scores, {1, 1}, {4, 0}), (Counts{2, 6}));
  EXPECT_EQ(split(scores, {1, 1}, {4, 100}), (Counts{4, 4}));
  EXPECT_EQ(split(scores, {1, 1}, {4, 50}), (Counts{3, 5}));
  EXPECT_EQ(split(scores, {1, 1}, {2, 20}), (Counts{2, 2}));
  EXPECT_EQ(split({{1, 1}, {1, 1}}, {0, 0}, {1, 0}), (Counts{2, 0}));  // of equals the first
}

TEST(SplitRows, NeverMoreThanTheBudgetAndWhatThereIs) {
  std::mt19937 random(4);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::vector<float>> scores(1 + random() % 5);
    std::size_t total = 0;
    for (auto& of : scores) {
      of.resize(5 + random() % 30);
      for (float& s : of) s = static_cast<float>(random() % 9);
      total += of.size();
    }
    const HeadBudget budget{static_cast<std::uint32_t>(5 + random() % 20),
                            static_cast<std::uint32_t>(random() % 101)};
    const auto counts = split(scores, {2, 3}, budget);
    const auto sum = std::accumulate(counts.begin(), counts.end(), std::size_t{0});
    EXPECT_LE(sum, scores.size() * budget.n_keep);
    EXPECT_LE(sum, total);
    for (std::size_t h = 0; h < scores.size(); ++h) {
      EXPECT_GE(counts[h], 5U);
      EXPECT_LE(counts[h], scores[h].size());
    }
  }
}

}  // namespace
}  // namespace larder
