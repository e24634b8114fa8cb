#include "wilson.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

TEST(WilsonInterval, KnownValues) {
  // R: prop.test(x, n, correct = FALSE)$conf.int
  const Interval half = wilson_interval(5, 10);
  EXPECT_NEAR(half.low, 0.2365931, 1e-6);
  EXPECT_NEAR(half.high, 0.7634069, 1e-6);
  const Interval most = wilson_interval(81, 263);
  EXPECT_NEAR(most.low, 0.2553, 1e-4);  // Newcombe 1998, table I
  EXPECT_NEAR(most.high, 0.3662, 1e-4);
  const Interval few = wilson_interval(1, 29);
  EXPECT_NEAR(few.low, 0.0061, 1e-4);
  EXPECT_NEAR(few.high, 0.1718, 1e-4);
}

TEST(WilsonInterval, EndsStayWithinAndAreNeverCertain) {
  const Interval none = wilson_interval(0, 20), all = wilson_interval(20, 20);
  EXPECT_EQ(none.low, 0);
  EXPECT_NEAR(none.high, 0.1611, 1e-4);  // z^2 / (n + z^2)
  EXPECT_NEAR(all.low, 0.8389, 1e-4);
  EXPECT_EQ(all.high, 1);
  EXPECT_EQ(wilson_interval(0, 0).low, 0);
  EXPECT_EQ(wilson_interval(0, 0).high, 1);
}

}  // namespace
}  // namespace larder
