#include "policy/head_budgets.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "policy/methods.h"

namespace larder {
namespace {

std::string refusal(std::string_view text) {
  const auto weights = parse_head_weights(text, "heads.tsv");
  return weights ? "accepted" : weights.error().message;
}

TEST(HeadWeights, AreALineForEachLayer) {
  const auto weights = parse_head_weights("# of a model\n0.5\t1\n\n 0 2e-1 \r\n1 3", "heads.tsv");
  ASSERT_TRUE(weights) << weights.error().message;
  EXPECT_EQ(weights->n_layers, 3U);
  EXPECT_EQ(weights->n_heads, 2U);
  EXPECT_EQ(weights->weights, (std::vector<float>{0.5F, 1, 0, 0.2F, 1, 3}));
}

TEST(HeadWeights, RefusalsNameTheLine) {
  EXPECT_EQ(refusal("1 2\n1"), "heads.tsv, line 2: 1 heads, 2 in the lines before");
  EXPECT_EQ(refusal("1 x"), "heads.tsv, line 1: 'x' is no weight of a head: a number, 0 or more");
  EXPECT_EQ(refusal(""), "heads.tsv: no line with weights of heads");
  for (const char* text : {"-1", "nan", "inf", "1,2", "# 1", "1 2 3x"}) {
    EXPECT_NE(refusal(text), "accepted") << text;
  }
  EXPECT_EQ(refusal("1 \x1b[31mx"),
            "heads.tsv, line 1: '\\x1b[31mx' is no weight of a head: a number, 0 or more");
  std::string deep, wide;
  for (int i = 0; i < 4097; ++i) {
    deep += "1\n";
    wide += "1 ";
  }
  EXPECT_NE(refusal(deep).find("more than 4096 layers"), std::string::npos);
  EXPECT_NE(refusal(wide).find("more than 4096 heads"), std::string::npos);
}

TEST(HeadShares, HaveTheMeanOne) {
  Policy policy = *parse_policy("snapkv:sinks=4,recent=8");
  policy.head_file = HeadFile::shares;
  std::mt19937 random(3);
  HeadWeights weights{5, 3, {}};
  for (int i = 0; i < 15; ++i) weights.weights.push_back(static_cast<float>(random() % 100) / 10);
  const std::vector<std::uint32_t> layers = {0, 2, 3};
  const auto shares = head_shares(policy, weights, layers);
  ASSERT_TRUE(shares);
  double sum = 0, of_weights = 0;
  std::uint32_t n_rows = 0;
  for (const std::uint32_t layer : layers) {
    for (std::uint32_t head = 0; head < 3; ++head) {
      sum += double{shares->of(layer, head)};
      of_weights += double{weights.weights[layer * 3 + head]};
      const std::uint32_t n = rows_of_head(policy, 112, shares->of(layer, head));
      EXPECT_GE(n, 12U);
      n_rows += n;
    }
  }
  EXPECT_NEAR(sum, 9, 1e-5);
  EXPECT_NEAR(double{shares->of(2, 1)}, double{weights.weights[7]} * 9 / of_weights, 1e-5);
  EXPECT_LE(n_rows, 9 * 112U);
  EXPECT_GT(n_rows, 9 * 111U);
  EXPECT_EQ(shares->of(1, 0), 0.0F);
  weights.weights.assign(15, 0);
  EXPECT_FALSE(head_shares(policy, weights, layers));
}

TEST(HeadShares, ClassesAreTheHeadsWithTheHighestWeights) {
  const Policy policy = *parse_policy("duo-attention:full-percent=34");
  const HeadWeights weights{2, 3, {0.5F, 0.9F, 0.1F, 0.9F, 0.5F, 0.5F}};
  const auto shares = head_shares(policy, weights, std::vector<std::uint32_t>{0, 1});
  ASSERT_TRUE(shares);
  constexpr float kAll = HeadShares::kAll;
  EXPECT_EQ(shares->shares, (std::vector<float>{kAll, kAll, 1, kAll, 1, 1}));  // 3 of 6
  const HeadWeights none{2, 3, std::vector<float>(6, 0.0F)};
  const auto refused = head_shares(policy, none, std::vector<std::uint32_t>{0, 1});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "heads: the weights are all 0");
  EXPECT_EQ(rows_of_head(policy, 320, kAll), UINT32_MAX);
  EXPECT_EQ(rows_of_head(policy, 320, 1), 320U);
}

}  // namespace
}  // namespace larder
