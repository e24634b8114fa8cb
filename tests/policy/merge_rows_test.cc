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

using Rows = std::vector<std::uint32_t>;

TEST(JoinRuns, TheLikestNeighboursBecomeOneAtThePlaceOfTheBest) {
  const std::vector<float> scores = {9, 1, 3, 2, 8, 1, 1, 5, 5, 0};
  const std::vector<float> likeness = {1, 0.9F, 0.8F, 1, 0.2F, 0.7F, 0.1F, 0.6F, 1};
  Rows kept(6), to(10);
  // Row 0 is a sink, row 9 the newest, row 4 has the most attention of the rest: left are the pairs
  // 1-2, 2-3, 5-6, 6-7 and 7-8, of which four are joined.
  join_runs(scores, likeness, {{1, 1}, 1}, kept, to);
  EXPECT_EQ(kept, (Rows{0, 2, 4, 6, 8, 9}));
  EXPECT_EQ(to, (Rows{0, 1, 1, 1, 2, 3, 3, 4, 4, 5}));
  // All five, and then the runs with the least go.
  kept.resize(4);
  join_runs(scores, likeness, {{1, 1}, 1}, kept, to);
  EXPECT_EQ(kept, (Rows{0, 4, 8, 9}));
  EXPECT_EQ(to, (Rows{0, kDropped, kDropped, kDropped, 1, 2, 2, 2, 2, 3}));
  kept.resize(2);
  join_runs(scores, likeness, {{1, 1}, 1}, kept, to);
  EXPECT_EQ(kept, (Rows{0, 9}));
  kept.resize(10);
  join_runs(scores, likeness, {{1, 1}, 1}, kept, to);
  EXPECT_EQ(kept, (Rows{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(WeighRuns, ByGaussiansAsWideAsTheRun) {
  const std::vector<RunMember> members = {{0, 1, 2}, {3, 1, 4}, {6, 2, 0}};
  std::vector<float> own(3);
  std::vector<RowMerge> merges;
  weigh_runs(members, own, merges);
  ASSERT_EQ(merges.size(), 3U);
  const float near = std::exp(-4.0F / 9), far = std::exp(-16.0F / 9), sum = 1 + near + far;
  EXPECT_EQ(own[0], 1.0F);
  EXPECT_FLOAT_EQ(own[1], 1 / sum);
  EXPECT_FLOAT_EQ(merges[0].weight, near / sum);
  EXPECT_FLOAT_EQ(merges[1].weight, far / sum);
  EXPECT_FLOAT_EQ(merges[2].weight, 0.5F);  // equal keys
  EXPECT_EQ(merges[2].to, 2U);
}

}  // namespace
}  // namespace larder
