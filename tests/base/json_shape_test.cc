#include "base/json_shape.h"

#include <gtest/gtest.h>

#include <string>

namespace larder {
namespace {

TEST(JsonShape, CountsWhatStandsOutsideOfStrings) {
  const JsonShape shape = measure_json(R"({"a:[{,":[1,{"b\"}":2,"c":"]"},[]],"d":{"e":{}}})");
  EXPECT_EQ(shape.depth, 3U);
  EXPECT_EQ(shape.n_values, 11U);  // 6 lists and objects, 4 commas, 1
  EXPECT_EQ(shape.n_members, 2U);
}

TEST(JsonShape, MembersAreThoseOfOneObject) {
  EXPECT_EQ(measure_json(R"([{"a":1},{"a":1},{"a":1}])").n_members, 1U);
  EXPECT_EQ(measure_json(R"({"a":{"x":1,"y":2},"b":{"x":1,"y":2,"z":3}})").n_members, 3U);
  EXPECT_EQ(measure_json(R"({"a":{"x":1},"b":0,"c":0})").n_members, 3U);
  EXPECT_EQ(measure_json("[]").n_members, 0U);
}

TEST(JsonShape, ReadsWhatIsNoJson) {
  EXPECT_EQ(measure_json("").depth, 0U);
  EXPECT_EQ(measure_json("]]}}\"\\").depth, 0U);
  EXPECT_EQ(measure_json(std::string(100'000, '[')).depth, 100'000U);
  EXPECT_EQ(measure_json(std::string(100'000, ':')).n_members, 100'000U);
}

}  // namespace
}  // namespace larder
