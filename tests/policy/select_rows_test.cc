#include "policy/select_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "policy/pool_scores.h"
#include "policy/row_lots.h"

namespace larder {
namespace {

std::vector<std::uint32_t> select(const std::vector<float>& scores, ProtectedRows protect,
                                  std::size_t n_keep) {
  std::vector<std::uint32_t> order(scores.size()), kept(n_keep);
  select_rows(scores, protect, order, kept);
  return kept;
}

TEST(SelectRows, KeepsWhatIsProtectedAndTheBestOfTheRest) {
  const std::vector<float> scores = {0, 0, 5, 1, 4, 2, 3, -1, -2};
  using Rows = std::vector<std::uint32_t>;
  EXPECT_EQ(select(scores, {2, 1}, 6), (Rows{0, 1, 2, 4, 6, 8}));
  EXPECT_EQ(select(scores, {0, 0}, 3), (Rows{2, 4, 6}));
  EXPECT_EQ(select(scores, {2, 3}, 5), (Rows{0, 1, 6, 7, 8}));
  EXPECT_EQ(select(scores, {2, 3}, 9), (Rows{0, 1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(select({1, 1, 1, 1}, {1, 0}, 2), (Rows{0, 3}));  // of equals the newest
}

TEST(SelectRows, EqualsASortOnRandomScores) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    const std::size_t n = 1 + random() % 60;
    std::vector<float> scores(n);
    for (float& s : scores) s = static_cast<float>(random() % 12);
    const std::size_t n_keep = 1 + random() % n;
    const auto n_first = static_cast<std::uint32_t>(random() % n_keep);
    const auto n_last = static_cast<std::uint32_t>(random() % (n_keep - n_first));
    std::vector<std::uint32_t> middle;
    for (std::uint32_t i = n_first; i < n - n_last; ++i) middle.push_back(i);
    std::stable_sort(middle.begin(), middle.end(), [&](auto a, auto b) {
      return scores[a] != scores[b] ? scores[a] > scores[b] : a > b;
    });
    std::vector<std::uint32_t> expected;
    for (std::uint32_t i = 0; i < n_first; ++i) expected.push_back(i);
    for (std::size_t i = 0; i < n_keep - n_first - n_last; ++i) expected.push_back(middle[i]);
    for (auto i = static_cast<std::uint32_t>(n) - n_last; i < n; ++i) expected.push_back(i);
    std::sort(expected.begin(), expected.end());
    ASSERT_EQ(select(scores, {n_first, n_last}, n_keep), expected) << "round " << round;
  }
}

TEST(PoolScores, MeansOverNeighboursAndZerosOutside) {
  std::vector<float> scores = {3, 6, 9, 0, 3}, scratch(5);
  pool_scores(3, scratch, scores);
  EXPECT_EQ(scores, (std::vector<float>{3, 6, 5, 4, 1}));
  std::vector<float> one = {2}, none;
  pool_scores(5, std::span(scratch).first(1), one);
  EXPECT_FLOAT_EQ(one[0], 0.4F);
  pool_scores(1, none, none);
}

TEST(RowLots, DependOnSeedPlaceAndNothingElse) {
  std::vector<float> a(100), b(50), c(100);
  draw_lots({1, 2, 3, 400}, a);
  draw_lots({1, 2, 3, 400}, b);
  EXPECT_TRUE(std::equal(b.begin(), b.end(), a.begin()));
  for (const Lot& other :
       {Lot{2, 2, 3, 400}, Lot{1, 3, 3, 400}, Lot{1, 2, 4, 400}, Lot{1, 2, 3, 401}}) {
    draw_lots(other, c);
    EXPECT_NE(a, c);
  }
  double sum = 0;
  for (const float x : a) {
    EXPECT_GE(x, 0.0F);
    EXPECT_LT(x, 1.0F);
    sum += static_cast<double>(x);
  }
  EXPECT_NEAR(sum / 100, 0.5, 0.1);
}

}  // namespace
}  // namespace larder
