#include "policy/hybrid_patterns.h"

#include <gtest/gtest.h>

#include <vector>

namespace larder {
namespace {

using enum TokenKind;

// Queries gave 100 in all, of which 30 from far behind.
const std::vector<float> kAll = {20, 5, 10, 40, 10, 15};
const std::vector<float> kFar = {10, 5, 5, 10, 0, 0};
const std::vector<TokenKind> kKinds = {special, plain, punctuation, plain, plain, plain};

HybridPattern fit(const PatternRule& rule, std::vector<float>& stays) {
  stays.assign(kAll.size(), 7.0F);
  return fit_pattern({kAll, kFar}, kKinds, rule, stays);
}

TEST(HybridPatterns, TheFirstThatIsEnough) {
  std::vector<float> stays;
  EXPECT_EQ(fit({{}, 1, 2, 20}, stays), HybridPattern::special);
  EXPECT_EQ(stays, (std::vector<float>{1, 0, 0, 0, 0, 0}));
  EXPECT_EQ(fit({{}, 1, 2, 21}, stays), HybridPattern::punctuation);
  EXPECT_EQ(stays, (std::vector<float>{1, 0, 1, 0, 0, 0}));
  EXPECT_EQ(fit({{}, 1, 2, 70}, stays), HybridPattern::frequent);
  EXPECT_EQ(stays, (std::vector<float>{1, 0, 1, 1, 0, 0}));
  // 70 and what near queries gave the others: 0 + 10 + 15.
  EXPECT_EQ(fit({{}, 1, 2, 95}, stays), HybridPattern::local);
  EXPECT_EQ(stays, (std::vector<float>{1, 0, 1, 1, 1, 1}));
  EXPECT_EQ(fit({{}, 1, 2, 96}, stays), HybridPattern::all);
  EXPECT_EQ(stays, (std::vector<float>(6, 1.0F)));
}

TEST(HybridPatterns, ProtectedRowsBelongToAllAndNewerOnesWinTies) {
  std::vector<float> stays;
  EXPECT_EQ(fit({{2, 1}, 1, 2, 40}, stays), HybridPattern::special);
  EXPECT_EQ(stays, (std::vector<float>{1, 1, 0, 0, 0, 1}));
  const std::vector<float> sums = {3, 3, 3, 1};
  stays.resize(4);
  EXPECT_EQ(fit_pattern({sums, sums}, std::vector<TokenKind>(4, plain), {{}, 2, 1, 60}, stays),
            HybridPattern::frequent);
  EXPECT_EQ(stays, (std::vector<float>{0, 1, 1, 0}));
}

}  // namespace
}  // namespace larder
