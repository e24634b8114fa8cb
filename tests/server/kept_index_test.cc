// Which kept cache helps a new prompt.
#include "server/kept_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace larder {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::int32_t> count(std::size_t n, std::int32_t first = 0) {
  std::vector<std::int32_t> tokens(n);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(KeptIndexTest, FindsTheLongestBeginning) {
  KeptIndex index(8);
  auto other = count(30);
  other[20] = 99;
  EXPECT_THAT(index.add(1, other, ""), IsEmpty());
  EXPECT_THAT(index.add(2, count(15), ""), IsEmpty());
  EXPECT_EQ(index.find(count(40), ""), 1U);  // 20 tokens against 15
  EXPECT_THAT(index.add(3, count(25), ""), ElementsAre(2));
  EXPECT_EQ(index.find(count(40), ""), 3U);
  EXPECT_EQ(index.find(count(40, 1), ""), 0U);
}

TEST(KeptIndexTest, ShortBeginningsDoNotCount) {
  KeptIndex index(8);
  index.add(1, count(50), "");
  EXPECT_EQ(index.find(count(KeptIndex::kMinShared - 1), ""), 0U);
  EXPECT_EQ(index.find(count(KeptIndex::kMinShared), ""), 1U);
}

TEST(KeptIndexTest, SaltsShareNothing) {
  KeptIndex index(8);
  index.add(1, count(50), "a");
  EXPECT_EQ(index.find(count(50), "b"), 0U);
  EXPECT_THAT(index.add(2, count(60), "b"), IsEmpty());  // does not cover the other's
  EXPECT_EQ(index.find(count(50), "a"), 1U);
}

TEST(KeptIndexTest, ForgetsTheLeastRecentlyUsed) {
  KeptIndex index(2);
  index.add(1, count(10, 100), "");
  index.add(2, count(10, 200), "");
  EXPECT_EQ(index.find(count(10, 100), ""), 1U);
  EXPECT_THAT(index.add(3, count(10, 300), ""), ElementsAre(2));
  EXPECT_EQ(index.size(), 2U);
}

}  // namespace
}  // namespace larder
