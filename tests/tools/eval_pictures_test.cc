// The pictures of larder eval: heat maps and memory against KL.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>

#include "pareto_chart.h"
#include "retrieval_report.h"
#include "svg_check.h"

namespace larder {
namespace {

using testing::HasSubstr;
using testing::Not;

RetrievalCell cell(std::uint32_t n_tokens, std::optional<double> depth, std::uint32_t n_right) {
  RetrievalCell one;
  one.n_tokens = n_tokens;
  one.depth = depth;
  one.n_samples = 10;
  one.n_right = n_right;
  one.recall = n_right / 10.0;
  return one;
}

TEST(SvgCheck, SeesWhatIsNotWellFormed) {
  EXPECT_TRUE(is_well_formed("<svg a=\"1\"><g/>x &amp; y</svg>"));
  for (const char* broken :
       {"<svg>", "<svg></g>", "<svg>a & b</svg>", "<svg a=\"></svg>", "<svg"}) {
    EXPECT_FALSE(is_well_formed(broken)) << broken;
  }
}

TEST(HeatMap, HasAFieldForEachCell) {
  const std::vector<RetrievalCell> cells = {cell(512, 0.0, 10), cell(512, 0.5, 3),
                                            cell(1024, 0.0, 0), cell(1024, 0.5, 7)};
  const std::string svg = heat_map(cells, "a <model> & \"more\"");
  EXPECT_TRUE(is_well_formed(svg));
  EXPECT_THAT(svg, HasSubstr("1024 tokens, depth 50 %: 7 of 10"));
  EXPECT_THAT(svg, HasSubstr("a &lt;model&gt; &amp; &quot;more&quot;"));
  EXPECT_TRUE(is_well_formed(heat_map({}, "nothing")));
}

TEST(ParetoChart, DrawsEveryPointAndTheFront) {
  const std::vector<ParetoPoint> points = {{"bf16", 1000, 0, 50},
                                           {"int8 <x>", 520, 1e-4, 80},
                                           {"int4", 280, 1e-2, 120},
                                           {"worse", 600, 2e-2, 0}};
  const std::string svg = pareto_chart(points, "title & more");
  EXPECT_TRUE(is_well_formed(svg));
  EXPECT_THAT(svg, HasSubstr("int8 &lt;x&gt;: 520 bytes per token, KL 0.000100, 80.0 tokens/s"));
  EXPECT_THAT(svg, HasSubstr("worse: 600 bytes per token, KL 0.020000<"));
  const std::size_t begin = svg.find("class=\"front\" points=\"") + 22;
  const std::string front = svg.substr(begin, svg.find('"', begin) - begin);
  EXPECT_EQ(std::count(front.begin(), front.end(), ','), 3);  // all but "worse"
}

TEST(ParetoChart, NamesOfNeighboursStandApart) {
  std::vector<ParetoPoint> points;
  for (int i = 0; i < 6; ++i) points.push_back({fmt::format("point {}", i), 400, 1e-3, 10});
  const std::string svg = pareto_chart(points, "");
  std::set<std::string> places;
  for (const ParetoPoint& point : points) {
    const std::size_t end = svg.find(">" + point.name + "</text>");
    ASSERT_NE(end, svg.npos);
    const std::size_t begin = svg.rfind("<text", end);
    places.insert(svg.substr(begin, end - begin));
  }
  EXPECT_EQ(places.size(), points.size());
}

TEST(ParetoChart, OnePointNoneAndNoNumbersAreDrawn) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<ParetoPoint> odd = {{"none", nan, nan, nan}};
  const std::vector<ParetoPoint> one = {{"bf16", 0, 0, 0}};
  for (const auto& points : {odd, one, std::vector<ParetoPoint>{}}) {
    const std::string svg = pareto_chart(points, "");
    EXPECT_TRUE(is_well_formed(svg));
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
    EXPECT_THAT(svg, Not(HasSubstr("inf")));
  }
}

TEST(RetrievalReport, TablesShowSharesWithIntervals) {
  const std::vector<RetrievalCell> cells = {cell(512, 0.0, 10), cell(512, 1.0, 5)};
  const std::string table = depth_table(cells);
  EXPECT_THAT(table, HasSubstr("depth 100 %"));
  EXPECT_THAT(table, HasSubstr("75 % [53..89]"));  // 15 of 20
  RetrievalCell partly = cell(512, {}, 2);
  partly.task = TaskKind::common_words;
  partly.recall = 0.55;
  EXPECT_THAT(task_table(std::vector{partly}), HasSubstr("20 % [6..51] / 55 %"));
  const auto json = cells_json(std::vector{partly});
  EXPECT_EQ(json[0]["task"], "common_words");
  EXPECT_TRUE(json[0]["depth"].is_null());
  EXPECT_EQ(json[0]["right"], 2);
}

}  // namespace
}  // namespace larder
