#include "bench_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace larder {
namespace {

using testing::HasSubstr;

TEST(BenchChart, RefusesWhatIsNoListOfResults) {
  for (const char* text : {"", "{}", "[{}]", "[1]", R"([{"n_prompt": "x"}])", "[[[[",
                           R"([{"n_prompt": 0, "n_gen": 1, "n_depth": 0, "n_parallel": 1,
                               "type_k": "a", "type_v": "a", "median_ts": -1}])"}) {
    const auto points = chart_points(text, "peer.json");
    ASSERT_FALSE(points) << text;
    EXPECT_THAT(points.error().message, HasSubstr("peer.json")) << text;
  }
}

TEST(BenchChart, GroupsByKindAndByEngine) {
  const auto points = chart_points(
      R"([{"n_prompt": 512, "n_gen": 0, "n_depth": 0, "n_parallel": 1, "type_k": "bf16",
           "type_v": "bf16", "median_ts": 2},
          {"n_prompt": 0, "n_gen": 16, "n_depth": 99, "n_parallel": 16, "type_k": "q8_0",
           "type_v": "f16", "median_ts": 3, "engine": "llama.cpp"},
          {"n_prompt": 8, "n_gen": 16, "n_depth": 0, "n_parallel": 1, "type_k": "a",
           "type_v": "a", "median_ts": 3}])",
      "x");
  ASSERT_TRUE(points) << points.error().message;
  ASSERT_EQ(points->size(), 2U);  // a mixture of both kinds has no place
  EXPECT_EQ((*points)[0].series, "Larder, bf16");
  EXPECT_EQ((*points)[0].panel, "prefill 512");
  EXPECT_EQ((*points)[1].series, "llama.cpp, q8_0/f16");
  EXPECT_EQ((*points)[1].panel, "decode, 16 sequences");
  EXPECT_EQ((*points)[1].depth, 99U);
}

TEST(BenchChart, DrawsTheLimitOnlyWhereItHolds) {
  const std::vector<ChartPoint> decode = {{"Larder", "decode", 0, 10},
                                          {"Larder", "decode", 100, 5}};
  const std::vector<ChartPoint> prefill = {{"Larder", "prefill 512", 0, 10}};
  const BandwidthLimit limit{1e9, 1e8, 1e3};
  EXPECT_THAT(bench_chart(decode, limit), HasSubstr("class=\"limit\""));
  EXPECT_THAT(bench_chart(prefill, limit), testing::Not(HasSubstr("class=\"limit\"")));
  EXPECT_THAT(bench_chart(decode, {}), testing::Not(HasSubstr("class=\"limit\"")));
}

TEST(BenchChart, OnePointAndNoneAreDrawn) {
  const std::vector<ChartPoint> one = {{"Larder", "decode", 0, 0}};
  EXPECT_THAT(bench_chart(one, {}), testing::Not(HasSubstr("nan")));
  EXPECT_THAT(bench_chart({}, {}), testing::EndsWith("</svg>\n"));
}

}  // namespace
}  // namespace larder
