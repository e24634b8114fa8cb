#include "base/check.h"

#include <gtest/gtest.h>

#include "base/block_id.h"

namespace larder {
namespace {

TEST(CheckDeathTest, SaysWhatFailedAndWhere) {
  LARDER_CHECK(1 + 1 == 2);
  EXPECT_DEATH(LARDER_CHECK(1 + 1 == 3), "check '1 \\+ 1 == 3' failed at .*check_test.cc:");
}

TEST(Check, EvaluatesItsExpressionOnce) {
  int n = 0;
  LARDER_CHECK(++n > 0);
  EXPECT_EQ(n, 1);
}

TEST(BlockId, IsAnOffsetInCacheLines) {
  static_assert(to_offset(BlockId{0}) == 0);
  static_assert(to_offset(BlockId{3}) == 192);
  static_assert(to_offset(BlockId{UINT32_MAX}) == (std::size_t{256} << 30) - 64);
}

}  // namespace
}  // namespace larder
