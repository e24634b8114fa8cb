#include "policy/merge_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace larder {
namespace {

TEST(ShareOut, GoesToTheNextRowsThatStayByLot) {
  const std::vector<float> scores = {1, 4, 2, 3, 6, 1}, lots = {0.1F, 0, 0.5F, 0, 0, 0.9F};
  const std::vector<std::uint32_t> kept = {1, 3, 4};
  std::vector<RowMerge> merges;
  share_out(scores, kept, lots, 2, merges);
  // Row 0: 1 / 3.5 > 0.1. Row 2: 2 / 4.5 < 0.5. Nothing stays behind row 5.
  ASSERT_EQ(merges.size(), 2U);
  EXPECT_EQ(merges[0].from, 0U);
  EXPECT_EQ(merges[0].to, 0U);
  EXPECT_EQ(merges[1].to, 1U);
  EXPECT_EQ(merges[1].weight, 0.5F);
  share_out(scores, kept, std::vector<float>(6), 32, merges);
  ASSERT_EQ(merges.size(), 5U);  // three heirs and two
  EXPECT_EQ(merges[0].weight, 1.0F / 3);
  EXPECT_EQ(merges[4].from, 2U);
  EXPECT_EQ(merges[4].to, 2U);
  share_out(scores, {}, lots, 2, merges);
  EXPECT_TRUE(merges.empty());
}

TEST(JoinLikest, WeighsByLikenessAboveTheMean) {
  const std::vector<Likeness> dropped = {{0, 1, 0.9F}, {2, 0, 0.1F}, {5, 1, 0.8F}, {6, 2, 0.2F}};
  std::vector<float> own(3);
  std::vector<RowMerge> merges;
  join_likest(dropped, own, merges);  // mean 0.5
  ASSERT_EQ(merges.size(), 2U);
  const float sum = std::exp(1.0F) + std::exp(0.9F) + std::exp(0.8F);
  EXPECT_EQ(merges[1].from, 5U);
  EXPECT_FLOAT_EQ(merges[0].weight, std::exp(0.9F) / sum);
  EXPECT_FLOAT_EQ(own[1], std::exp(1.0F) / sum);
  EXPECT_EQ(own[0], 1.0F);
  EXPECT_EQ(own[2], 1.0F);
  join_likest({}, own, merges);
  EXPECT_EQ(own[1], 1.0F);
  EXPECT_TRUE(merges.empty());
}

}  // namespace
}  // namespace larder
