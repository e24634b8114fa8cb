#include "kernels/routing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace larder {
namespace {

std::vector<float> logs(std::vector<float> probabilities) {
  for (float& p : probabilities) p = std::log(p);
  return probabilities;
}

std::vector<ExpertChoice> choose(const RoutingRule& rule, std::vector<float> logits,
                                 std::size_t n) {
  std::vector<ExpertChoice> out(n);
  choose_experts(rule, logits, out);
  return out;
}

TEST(Routing, TakesTheMostLikelyInOrderOfIndex) {
  const auto chosen = choose({}, logs({0.1F, 0.4F, 0.2F, 0.3F}), 2);
  EXPECT_EQ(chosen[0].expert, 1U);
  EXPECT_NEAR(chosen[0].weight, 0.4, 1e-6);
  EXPECT_EQ(chosen[1].expert, 3U);
  EXPECT_NEAR(chosen[1].weight, 0.3, 1e-6);
}

TEST(Routing, NormalisesBeforeItScales) {
  const auto chosen = choose({.scale = 2.0F, .normalise = true}, logs({0.1F, 0.4F, 0.3F, 0.2F}), 2);
  EXPECT_NEAR(chosen[0].weight, 2 * 0.4 / 0.7, 1e-6);
  EXPECT_NEAR(chosen[1].weight, 2 * 0.3 / 0.7, 1e-6);
  EXPECT_NEAR(choose({.scale = 2.0F}, logs({0.5F, 0.5F}), 1)[0].weight, 1.0, 1e-6);
}

TEST(Routing, OnlyTheGroupsWithTheBestExpertsTakePart) {
  // Groups {0, 1}, {2, 3}, {4, 5}: bests 0.3, 0.25 and 0.2; expert 4 has more than 1 and 2.
  const auto p = logs({0.3F, 0.02F, 0.03F, 0.25F, 0.2F, 0.2F});
  const auto chosen = choose({.n_groups = 3, .n_groups_used = 2}, p, 3);
  EXPECT_EQ(chosen[0].expert, 0U);
  EXPECT_EQ(chosen[1].expert, 2U);
  EXPECT_EQ(chosen[2].expert, 3U);
  EXPECT_NEAR(chosen[1].weight, 0.03, 1e-6);  // of the softmax over all
}

TEST(Routing, OfEqualsTheFirst) {
  const std::vector<float> equal(8, 1.0F);
  const auto chosen = choose({.n_groups = 4, .n_groups_used = 2}, equal, 3);
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_EQ(chosen[i].expert, i);
}

TEST(Routing, MatchesSortingOnRandomLogits) {
  std::mt19937 rng(1);
  std::normal_distribution<float> normal(0, 3);
  for (int round = 0; round < 100; ++round) {
    std::vector<float> logits(64);
    for (float& x : logits) x = normal(rng);
    std::vector<std::uint32_t> order(64);
    std::iota(order.begin(), order.end(), 0U);
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return logits[a] > logits[b]; });
    std::sort(order.begin(), order.begin() + 6);
    double sum = 0;
    for (const float x : logits) sum += std::exp(x);
    const auto chosen = choose({}, logits, 6);
    for (std::size_t i = 0; i < 6; ++i) {
      ASSERT_EQ(chosen[i].expert, order[i]);
      ASSERT_NEAR(chosen[i].weight, std::exp(logits[order[i]]) / sum, 1e-5);
    }
  }
}

}  // namespace
}  // namespace larder
