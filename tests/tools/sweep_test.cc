// Configurations and finished cells of larder eval sweep.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "model_fingerprint.h"
#include "process.h"
#include "svg_check.h"
#include "sweep_config.h"
#include "sweep_report.h"
#include "sweep_store.h"

namespace larder {
namespace {

using testing::HasSubstr;
using Json = nlohmann::ordered_json;

std::string refusal(const std::string& line) {
  const auto config = parse_sweep_config(line, {});
  return config ? "" : config.error().message;
}

TEST(SweepConfig, IsANameAndFlagsOfTheEngine) {
  EngineOptions base;
  base.n_threads = 2;
  base.kv.type_v = "f16";
  const auto config = parse_sweep_config(" wide keys : -ctk f32 --block-size=64 ", base);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->name, "wide keys");
  EXPECT_EQ(config->flags, "-ctk f32 --block-size=64");
  EXPECT_EQ(config->options.kv.type_k, "f32");
  EXPECT_EQ(config->options.kv.type_v, "f16");
  EXPECT_EQ(config->options.kv.block_tokens, 64U);
  EXPECT_EQ(config->options.n_threads, 2U);
  EXPECT_TRUE(parse_sweep_config("as it is:", base));
}

TEST(SweepConfig, RefusesByName) {
  EXPECT_THAT(refusal("no colon"), HasSubstr("'no colon' is not NAME: FLAGS"));
  EXPECT_THAT(refusal(": -ctk f32"), HasSubstr("NAME: FLAGS"));
  EXPECT_THAT(refusal("a: --no-such-flag"), HasSubstr("configuration 'a'"));
  EXPECT_THAT(refusal("a: -c 4096"), HasSubstr("configuration 'a'"));  // the sweep's own
  EXPECT_THAT(refusal("a: -ctk q9_9"), HasSubstr("'q9_9'"));
  EXPECT_THAT(refusal("a: --help"), HasSubstr("configuration 'a'"));
}

TEST(SweepConfig, FilesHaveCommentsAndNoNameTwice) {
  const auto configs = parse_sweep_configs({"# two", "", "a: -ctk f32", "  b:  \r"}, {});
  ASSERT_TRUE(configs) << configs.error().message;
  ASSERT_EQ(configs->size(), 2U);
  EXPECT_EQ((*configs)[1].name, "b");
  EXPECT_THAT(parse_sweep_configs({"a:", "a: -ctk f32"}, {}).error().message, HasSubstr("'a'"));
  EXPECT_FALSE(parse_sweep_configs({"# nothing"}, {}));
}

TEST(SweepConfig, OptionsThatChangeResultsAreTheKey) {
  EngineOptions a, b;
  b.model_path = "elsewhere";
  b.n_context = 99;
  b.kv.memory_bytes = 1 << 20;
  EXPECT_EQ(result_options(a), result_options(b));
  b.kv.type_k = "f32";
  EXPECT_NE(result_options(a), result_options(b));
  EXPECT_THAT(result_options(b), HasSubstr("cache-type-k=f32"));
  const std::string path = testing::TempDir() + "sweep_test.keys";
  b.kv.calibration = path;
  std::ofstream(path) << "one";
  const std::string before = result_options(b);
  EXPECT_EQ(result_options(b), before);
  std::ofstream(path) << "another";
  EXPECT_NE(result_options(b), before) << "a calibration of the same name, made anew";
}

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(SweepStore, FinishedCellsAreFoundAgain) {
  const std::string path = temporary_path("cells.jsonl");
  const Json one = {{"measure", "kl"}, {"context", 512}},
             same = {{"context", 512}, {"measure", "kl"}};
  const Json other = {{"measure", "kl"}, {"context", 1024}};
  {
    auto store = SweepStore::open(path);
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_EQ(store->find(one), nullptr);
    ASSERT_TRUE(store->add(one, {{"kl_mean", 0.25}}));
    ASSERT_NE(store->find(same), nullptr);
  }
  const auto store = SweepStore::open(path);
  ASSERT_TRUE(store) << store.error().message;
  ASSERT_NE(store->find(one), nullptr);
  EXPECT_EQ((*store->find(one))["kl_mean"], 0.25);
  EXPECT_EQ(store->find(other), nullptr);
  std::filesystem::remove(path);
}

TEST(SweepStore, GoesOnBehindALineThatWasCut) {
  const Json one = {{"n", 1}}, two = {{"n", 2}};
  const std::string whole = R"({"cell":{"n":1},"result":{"x":1}})";
  for (const std::string& end : {std::string(), std::string("\n{\"cell\":{\"n\":2},\"res")}) {
    const std::string path = temporary_file("cut.jsonl", whole + end);
    auto store = SweepStore::open(path);
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_EQ(store->size(), 1U);
    ASSERT_TRUE(store->add(two, {{"x", 2}}));
    EXPECT_EQ(content(path), whole + "\n" + R"({"cell":{"n":2},"result":{"x":2}})" + "\n");
    const auto again = SweepStore::open(path);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->size(), 2U);
    EXPECT_NE(again->find(one), nullptr);
  }
}

TEST(SweepStore, OtherFilesAreRefusedUntouched) {
  const std::string path = temporary_file("text.jsonl", "a text\nof two lines\n");
  const auto store = SweepStore::open(path);
  ASSERT_FALSE(store);
  EXPECT_THAT(store.error().message, HasSubstr("line 1 is no cell"));
  EXPECT_FALSE(SweepStore::open(std::filesystem::temp_directory_path().string()));
  EXPECT_FALSE(SweepStore::open("/nonexistent/cells.jsonl"));  // before anything is measured
}

TEST(SweepReport, LeavesOutWhatWasNotMeasured) {
  SweepRow bf16, small;
  bf16.name = "bf16";
  small.name = "small";
  bf16.kl[512] = {{"kl_mean", 0.0},
                  {"top1_agreement", 1.0},
                  {"cached_bytes_per_token", 400.0},
                  {"reference_cached_bytes_per_token", 400.0},
                  {"bits_per_element", 16.0}};
  small.kl[512] = {{"kl_mean", 0.0125},
                   {"top1_agreement", 0.97},
                   {"cached_bytes_per_token", 100.0},
                   {"reference_cached_bytes_per_token", 400.0},
                   {"bits_per_element", 4.0}};
  small.speed[4096] = {{"prefill", 1000.0}, {"decode", 55.5}};
  small.passkey[512] = {{"samples", 20}, {"right", 19}};
  const std::string table = sweep_table({bf16, small});
  for (const char* said :
       {"KL@512", "0.01250", "97.0 %", "4.00x", "decode@4096", "55.5", "95 % [76..99]"}) {
    EXPECT_THAT(table, HasSubstr(said));
  }
  const auto points = pareto_points({bf16, small});
  ASSERT_EQ(points.size(), 2U);
  EXPECT_EQ(points[1].speed, 55.5);
  EXPECT_EQ(points[1].bytes_per_token, 100);
  EXPECT_EQ(sweep_json({small})[0]["kl"]["512"]["kl_mean"], 0.0125);
  SweepRow refused;
  refused.name = "odd";
  refused.refusal = "rows of 8 elements";
  EXPECT_EQ(sweep_table({bf16, small, refused}), table);
  EXPECT_EQ(sweep_json({refused})[0]["refusal"], "rows of 8 elements");
  EXPECT_EQ(pareto_points({refused}).size(), 0U);
}

TEST(SweepReport, TasksHaveATableAndBarsOfTheirOwn) {
  SweepRow full, half;
  full.name = "full";
  half.name = "half & half";
  const std::string hidden = task_text(TaskKind::niah_single, Asked::behind_cache);
  const std::string visible = task_text(TaskKind::common_words, Asked::within_prompt);
  EXPECT_EQ(hidden, "niah_single, hidden");
  full.tasks[hidden][512] = {{"samples", 4}, {"right", 4}, {"recall", 1.0}};
  full.tasks[hidden][256] = {{"samples", 4}, {"right", 2}, {"recall", 0.5}};
  half.tasks[visible][256] = {{"samples", 4}, {"right", 0}, {"recall", 0.3}};
  const std::string table = sweep_task_table({full, half});
  for (const char* said : {"niah_single, hidden@256", "niah_single, hidden@512",
                           "common_words, visible@256", "100 %", "50 %", "30 %"}) {
    EXPECT_THAT(table, HasSubstr(said));
  }
  EXPECT_EQ(sweep_task_table({SweepRow{}}), "");
  const auto bars = task_bars({full, SweepRow{}, half});
  ASSERT_EQ(bars.size(), 2U);
  EXPECT_DOUBLE_EQ(*bars[0].hidden, 0.75);
  EXPECT_FALSE(bars[0].visible);
  EXPECT_DOUBLE_EQ(*bars[1].visible, 0.3);
  const std::string svg = task_chart(bars, "answers < all");
  EXPECT_TRUE(is_well_formed(svg));
  EXPECT_THAT(svg, HasSubstr("half &amp; half"));
  EXPECT_EQ(sweep_json({full})[0]["tasks"][hidden]["256"]["recall"], 0.5);
}

TEST(Fingerprint, TellsModelsApart) {
  EXPECT_EQ(text_fingerprint(""), "cbf29ce484222325");
  EXPECT_EQ(text_fingerprint("a"), "af63dc4c8601ec8c");
  const auto tiny = open_model(tiny_model()), stories = open_model(stories_model());
  ASSERT_TRUE(tiny && stories);
  EXPECT_EQ(model_fingerprint(**tiny), model_fingerprint(**tiny));
  EXPECT_NE(model_fingerprint(**tiny), model_fingerprint(**stories));
}

}  // namespace
}  // namespace larder
