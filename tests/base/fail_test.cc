#include "base/fail.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace larder {
namespace {

Result<int> parse(int value) {
  if (value < 0) return fail(Errc::invalid_argument, "count: {} is negative", value);
  return value;
}

Result<int> twice(int value) {
  LARDER_ASSIGN(const int parsed, parse(value));
  return 2 * parsed;
}

Result<void> only_checks(int value) {
  LARDER_TRY(parse(value));
  return {};
}

Result<std::string> two_steps(int a, int b) {
  LARDER_ASSIGN(const int first, parse(a));
  LARDER_ASSIGN(const int second, parse(b));  // two in one function do not clash
  return std::to_string(first + second);
}

TEST(Fail, CarriesCodeAndMessage) {
  const auto result = twice(-3);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::invalid_argument);
  EXPECT_EQ(result.error().message, "count: -3 is negative");
}

TEST(Fail, PassesValuesAndTheFirstError) {
  EXPECT_EQ(*twice(4), 8);
  EXPECT_TRUE(only_checks(1));
  EXPECT_EQ(only_checks(-1).error().message, "count: -1 is negative");
  EXPECT_EQ(*two_steps(1, 2), "3");
  EXPECT_EQ(two_steps(-1, -2).error().message, "count: -1 is negative");
  EXPECT_EQ(two_steps(1, -2).error().message, "count: -2 is negative");
}

TEST(Fail, MovesWhatCannotBeCopied) {
  const auto make = [](bool good) -> Result<std::unique_ptr<int>> {
    if (!good) return fail(Errc::not_found, "none");
    return std::make_unique<int>(7);
  };
  const auto use = [&](bool good) -> Result<int> {
    LARDER_ASSIGN(const std::unique_ptr<int> p, make(good));
    return *p;
  };
  EXPECT_EQ(*use(true), 7);
  EXPECT_EQ(use(false).error().code, Errc::not_found);
}

}  // namespace
}  // namespace larder
