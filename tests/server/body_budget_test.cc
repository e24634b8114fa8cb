#include "server/body_budget.h"

#include <gtest/gtest.h>

#include <optional>
#include <utility>

namespace larder {
namespace {

constexpr std::size_t kFree = BodyBudget::kFreeBytes, kLarge = BodyBudget::kLargeBytes;

TEST(BodyBudgetTest, CountsWhatCameBehindTheFreePart) {
  BodyBudget budget(100);
  BodyShare first(budget), second(budget);
  EXPECT_TRUE(first.grow(kFree - 1));
  EXPECT_EQ(budget.n_bytes(), 0U);
  EXPECT_TRUE(first.grow(61));
  EXPECT_EQ(budget.n_bytes(), 60U);
  EXPECT_FALSE(second.grow(kFree + 41));
  EXPECT_TRUE(second.grow(kFree + 40));
  EXPECT_FALSE(second.grow(1));
  EXPECT_EQ(budget.n_bytes(), 100U);
  BodyShare small(budget);
  EXPECT_TRUE(small.grow(kFree));  // whatever the others take
  first.release();
  EXPECT_FALSE(first.grow(1));
  EXPECT_TRUE(second.grow(60));
  second.release();
  EXPECT_EQ(budget.n_bytes(), 0U);
}

TEST(BodyBudgetTest, SharesGoBackHoweverTheyGo) {
  BodyBudget budget(1000);
  {
    BodyShare share(budget);
    EXPECT_TRUE(share.grow(kFree + 10));
    BodyShare other(std::move(share));
    EXPECT_EQ(budget.n_bytes(), 10U);
    BodyShare third(budget);
    EXPECT_TRUE(third.grow(kFree + 5));
    third = std::move(other);
    EXPECT_EQ(budget.n_bytes(), 10U);
  }
  EXPECT_EQ(budget.n_bytes(), 0U);
  EXPECT_FALSE(BodyShare().grow(1));
}

TEST(BodyBudgetTest, SaysWhenALargeBodyIsLetGo) {
  int n_large = 0;
  BodyBudget budget(4 * kLarge, [&n_large] { ++n_large; });
  {
    BodyShare small(budget), large(budget);
    EXPECT_TRUE(small.grow(kLarge));
    EXPECT_TRUE(large.grow(kLarge + 1));
    large.release();
    EXPECT_EQ(n_large, 1);
  }
  EXPECT_EQ(n_large, 1);  // once
}

}  // namespace
}  // namespace larder
