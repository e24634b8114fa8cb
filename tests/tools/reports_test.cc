// larder inspect, bench and eval, as a user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "process.h"

namespace larder {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json json_of(const std::vector<std::string>& arguments) {
  const Outcome run = run_larder(arguments);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  return json::parse(run.out, nullptr, false);
}

TEST(Inspect, SaysWhatTheModelIs) {
  const Outcome run = run_larder({"inspect", tiny_model(), "--tensors", "--memory", "1M,2GB"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.err, "");
  for (const char* said :
       {"llama", "2, width 64, feed-forward 128", "4 query, 2 KV (GQA", "512 tokens, SentencePiece",
        "MHA, 4 KV", "<- as it is", "1.00 MiB", "blk.1.ffn_down.weight", "64 x 128"}) {
    EXPECT_THAT(run.out, HasSubstr(said));
  }
}

TEST(Inspect, JsonAgreesWithTheArithmetic) {
  const json report = json_of({"inspect", tiny_model(), "--json", "--memory", "1M"});
  EXPECT_EQ(report["config"]["n_kv_heads"], 2);
  bool seen = false;
  for (const json& format : report["kv_cache"]) {
    if (format["format"] != "bf16") continue;
    seen = true;
    EXPECT_EQ(format["bytes_per_token"], 2 * 2 * 2 * 16 * 2);  // K and V, layers, heads, dim, bytes
    EXPECT_EQ(format["bytes_per_token_as"]["MHA"], 512);
    EXPECT_EQ(format["bytes_per_token_as"]["MQA"], 128);
    EXPECT_EQ(format["longest_context"][0]["n_tokens"], (1 << 20) / 256);
  }
  EXPECT_TRUE(seen);
}

TEST(Bench, MeasuresDepthAndSequencesSideBySide) {
  const json report = json_of({"bench", "-m", tiny_model(), "-p", "20", "-n", "4", "-pg", "8,4",
                               "-d", "0,40", "-b", "1,2", "-r", "2", "-t", "1", "-o", "json"});
  ASSERT_EQ(report.size(), 12U);
  EXPECT_EQ(report[0]["test"], "pp20");
  EXPECT_EQ(report[11]["test"], "pp8+tg4@d40 x2");
  for (const json& one : report) {
    EXPECT_EQ(one["samples_s"].size(), 2U);
    EXPECT_GT(one["median_ts"], 0);
    EXPECT_LE(one["min_ts"], one["median_ts"]);
    EXPECT_LE(one["median_ts"], one["max_ts"]);
    EXPECT_GT(one["kv_peak_bytes"], 0);
  }
}

TEST(Bench, SharedDepthIsStoredOnce) {
  const std::vector<std::string> base = {"bench", "-m", tiny_model(), "-p", "0",   "-n",
                                         "4",     "-d", "96",         "-b", "4",   "-r",
                                         "1",     "-t", "1",          "-o", "json"};
  auto with_flag = base;
  with_flag.push_back("--shared-prefix");
  const json own = json_of(base), shared = json_of(with_flag);
  EXPECT_EQ(shared[0]["test"], "tg4@d96 x4 shared");
  // Of four times 96 rows one copy is left; each sequence adds a block of its own.
  EXPECT_LT(shared[0]["kv_peak_bytes"].get<double>(), 0.7 * own[0]["kv_peak_bytes"].get<double>());
}

/// What stays of the depth, what is computed behind it, and both while rows are dropped.
TEST(Bench, HasRoomForAPolicyBehindADepth) {
  const json result =
      json_of({"bench", "-m", tiny_model(), "-p", "512", "-n", "0", "-d", "4096", "-r", "1", "-t",
               "1", "-o", "json", "--kv-policy", "streaming-llm:every=32", "--kv-keep", "512"});
  EXPECT_EQ(result[0]["test"], "pp512@d4096");
}

TEST(Bench, DrawsItselfBesideAnotherEngine) {
  const std::string peer = temporary_file(
      "peer.json", R"([{"engine": "other <&> engine", "n_prompt": 0, "n_gen": 4, "n_depth": 64,
                        "n_parallel": 1, "type_k": "f16", "type_v": "f16", "median_ts": 5}])");
  const std::string chart = temporary_path("chart.svg");
  json_of({"bench", "-m", tiny_model(), "-p", "8", "-n", "4", "-d", "0,64", "-r", "1", "-t", "1",
           "-o", "json", "--chart", chart, "--peer", peer});
  std::ifstream file(chart);
  const std::string svg{std::istreambuf_iterator<char>(file), {}};
  EXPECT_THAT(svg, testing::StartsWith("<svg"));
  EXPECT_THAT(svg, HasSubstr("Larder, bf16"));
  EXPECT_THAT(svg, HasSubstr("other &lt;&amp;&gt; engine, f16: 5.0 tokens/s at depth 64"));
  EXPECT_THAT(svg, HasSubstr("limit of the memory"));
}

TEST(Bench, RefusesBeforeItMeasures) {
  const std::vector<std::string> base = {"bench", "-m", tiny_model(), "-p", "8", "-n",
                                         "0",     "-r", "1",          "-t", "1"};
  const auto refused = [&base](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = base;
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome run = run_larder(arguments);
    EXPECT_EQ(run.exit_code, 2);
    EXPECT_EQ(run.out, "");  // no row was measured
    return run.err;
  };
  EXPECT_THAT(refused({"--chart", "/nowhere/x.svg"}), HasSubstr("/nowhere/x.svg"));
  const std::string chart = temporary_path("refused.svg");
  EXPECT_THAT(refused({"--chart", chart, "--peer", "/nowhere/peer.json"}),
              HasSubstr("/nowhere/peer.json"));
  EXPECT_FALSE(std::filesystem::exists(chart));
  EXPECT_THAT(refused({"--peer", "/nowhere/peer.json"}), HasSubstr("--chart"));
  EXPECT_THAT(refused({"--read-bandwidth"}), HasSubstr("no model"));
}

TEST(Bench, PrintsATableAndCsv) {
  const std::vector<std::string> base = {"bench", "-m", tiny_model(), "-p", "8", "-n",
                                         "0",     "-r", "1",          "-t", "1"};
  const Outcome table = run_larder(base);
  EXPECT_THAT(table.out, HasSubstr("| pp8"));
  EXPECT_THAT(table.err, HasSubstr("K bf16, V bf16"));
  auto as_csv = base;
  as_csv.insert(as_csv.end(), {"-o", "csv", "-ctk", "f16,f32"});
  const Outcome csv = run_larder(as_csv);
  EXPECT_THAT(csv.out, testing::StartsWith("engine,model_type,"));
  EXPECT_THAT(csv.out, HasSubstr("\"f16\",\"bf16\""));
  EXPECT_THAT(csv.out, HasSubstr("\"f32\",\"bf16\""));
}

TEST(Eval, DoesNotDependOnHowManyWindowsRunAtOnce) {
  std::string text;
  for (int i = 0; i < 12; ++i) text += "Once upon a time there was a little girl named Lily. ";
  const std::string path = temporary_file("story.txt", text);
  const auto measure = [&](const std::string& parallel) {
    return json_of({"eval", "perplexity", "-m", stories_model(), path, "-c", "64", "--stride", "24",
                    "-t", "1", "--parallel", parallel, "--json"});
  };
  const json one = measure("1");
  const json three = measure("3");
  EXPECT_EQ(one["perplexity"], three["perplexity"]);
  EXPECT_EQ(one["scored_bytes"], text.size());
  EXPECT_EQ(one["scored_tokens"], one["text_tokens"]);
  EXPECT_TRUE(one["bos"]);
  EXPECT_GT(one["perplexity"], 1);
  EXPECT_LT(one["perplexity"], 20);
  EXPECT_NEAR(one["bits_per_token"].get<double>(), std::log2(one["perplexity"].get<double>()),
              1e-9);
}

TEST(Eval, CanBeCutShort) {
  const std::string path = temporary_file("long.txt", std::string(4000, 'a'));
  const json report = json_of({"eval", "perplexity", "-m", stories_model(), path, "-c", "64",
                               "--max-tokens", "100", "--json", "-t", "1"});
  EXPECT_EQ(report["scored_tokens"], 100);
  const Outcome text = run_larder({"eval", "perplexity", "-m", stories_model(), path, "-c", "64",
                                   "--max-tokens", "100", "-t", "1"});
  EXPECT_THAT(text.out, HasSubstr("bits per byte"));
  EXPECT_THAT(text.out, HasSubstr("before every window"));
}

}  // namespace
}  // namespace larder
