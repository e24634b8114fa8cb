// larder eval, as a user runs it: contexts, hidden things, sweeps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "process.h"
#include "svg_check.h"

namespace larder {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json json_of(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"-t", "1", "--json"});
  const Outcome run = run_larder(arguments);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  return json::parse(run.out, nullptr, false);
}

void expect_refused(const std::vector<std::string>& arguments,
                    const std::vector<std::string>& parts) {
  const Outcome run = run_larder(arguments);
  EXPECT_EQ(run.exit_code, 2) << run.err;
  EXPECT_EQ(run.out, "");
  EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
  for (const std::string& part : parts) EXPECT_THAT(run.err, HasSubstr(part));
}

std::string story() { return LARDER_TEST_DATA "/perplexity/story.txt"; }

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(EvalContexts, PerplexityAndKlBehindEach) {
  const json ppl = json_of({"eval", "perplexity", "-m", stories_model(), story(), "--contexts",
                            "32,64", "--continuation", "16", "--windows", "3"});
  ASSERT_EQ(ppl["contexts"].size(), 2U);
  EXPECT_EQ(ppl["contexts"][1]["context"], 64);
  EXPECT_EQ(ppl["contexts"][1]["scored_tokens"], 48);
  const json kl = json_of({"eval", "kl", "-m", stories_model(), story(), "--contexts", "32,64",
                           "--continuation", "16", "--windows", "3", "-ctk", "f16"});
  ASSERT_EQ(kl.size(), 2U);
  EXPECT_GT(kl[0]["kl_mean"], 0);
  EXPECT_EQ(kl[1]["scored_tokens"], 48);
  EXPECT_GE(kl[1]["cached_bytes_per_token"], kl[1]["kv_bytes_per_token"]);
  EXPECT_NEAR(ppl["contexts"][1]["perplexity"], kl[1]["reference_perplexity"], 1e-3);
  const json same =
      json_of({"eval", "kl", "-m", stories_model(), story(), "--contexts", "64", "--continuation",
               "16", "--windows", "3", "-ctk", "f16", "--reference-cache-type-k", "f16"});
  EXPECT_EQ(same[0]["kl_max"], 0);
}

TEST(EvalContexts, APolicyCompressesTheContextAndTheReferenceHasNone) {
  const json kl =
      json_of({"eval", "kl", "-m", stories_model(), story(), "--contexts", "64", "--continuation",
               "16", "--windows", "2", "--kv-policy", "knorm:recent=4", "--kv-keep", "24"});
  ASSERT_EQ(kl.size(), 1U);
  EXPECT_GT(kl[0]["kl_mean"], 0);
  // One block of 32 rows instead of two.
  EXPECT_DOUBLE_EQ(2 * kl[0]["cached_bytes_per_token"].get<double>(),
                   kl[0]["reference_cached_bytes_per_token"].get<double>());
}

TEST(EvalRetrieval, PrintsAndDrawsWhatWasFound) {
  const std::string svg = temporary_path("grid.svg");
  const json needle = json_of({"eval", "needle", "-m", tiny_model(), "--lengths", "300,400",
                               "--depths", "0,50,100", "--samples", "2", "--svg", svg});
  ASSERT_EQ(needle["cells"].size(), 6U);
  EXPECT_EQ(needle["cells"][5]["depth"], 1);
  EXPECT_EQ(needle["cells"][5]["context_rows"], needle["cells"][5]["context_rows_from_cache"]);
  EXPECT_EQ(needle["all"]["samples"], 12);
  EXPECT_TRUE(is_well_formed(content(svg)));
  const json again = json_of({"eval", "needle", "-m", tiny_model(), "--lengths", "300,400",
                              "--depths", "0,50,100", "--samples", "2"});
  EXPECT_EQ(needle["cells"], again["cells"]);
  const Outcome passkey = run_larder({"eval", "passkey", "-m", tiny_model(), "-t", "1", "--lengths",
                                      "400", "--samples", "1", "--filler", story()});
  EXPECT_EQ(passkey.exit_code, 0) << passkey.err;
  EXPECT_EQ(passkey.err, "");
  for (const char* said :
       {"depth 75 %", "all [95 %]", "of 5 samples", "from the cache", "engine"}) {
    EXPECT_THAT(passkey.out, HasSubstr(said));
  }
}

TEST(EvalRetrieval, RulerHasATaskOfEachKind) {
  const json ruler =
      json_of({"eval", "ruler", "-m", tiny_model(), "--lengths", "900", "--samples", "1"});
  EXPECT_EQ(ruler["cells"].size(), 7U);
  const json two = json_of({"eval", "ruler", "-m", tiny_model(), "--lengths", "700", "--samples",
                            "1", "--tasks", "niah_multikey,variable_tracking"});
  EXPECT_EQ(two["cells"].size(), 2U);
}

TEST(EvalSweep, MeasuresOnceAndGoesOn) {
  const std::string results = temporary_path("sweep.jsonl"), svg = temporary_path("sweep.svg"),
                    report = temporary_path("sweep.md"),
                    configs = temporary_file("configs.txt", "# two\nbf16:\nf16: -ctk f16\n");
  std::vector<std::string> command = {"eval",
                                      "sweep",
                                      "-m",
                                      stories_model(),
                                      "--configs",
                                      configs,
                                      "--text",
                                      story(),
                                      "--contexts",
                                      "32",
                                      "--continuation",
                                      "16",
                                      "--windows",
                                      "2",
                                      "--passkey",
                                      "300",
                                      "--samples",
                                      "5",
                                      "--speed",
                                      "64",
                                      "-r",
                                      "1",
                                      "--results",
                                      results,
                                      "--svg",
                                      svg,
                                      "--report",
                                      report};
  const json first = json_of(command);
  ASSERT_EQ(first["configurations"].size(), 2U);
  EXPECT_EQ(first["configurations"][0]["kl"]["32"]["kl_mean"], 0);  // the reference itself
  EXPECT_GT(first["configurations"][1]["kl"]["32"]["kl_mean"], 0);
  EXPECT_EQ(first["configurations"][1]["bits_per_element"], 16);
  EXPECT_EQ(first["configurations"][1]["passkey"]["300"]["samples"], 5);
  EXPECT_GT(first["configurations"][1]["speed"]["64"]["decode"], 0);
  EXPECT_TRUE(is_well_formed(content(svg)));
  EXPECT_THAT(content(report), HasSubstr("| f16"));
  const std::string cells = content(results);
  EXPECT_EQ(std::count(cells.begin(), cells.end(), '\n'), 6);
  command.insert(command.end(), {"--config", "f32: -ctk f32 -ctv f32"});
  const json second = json_of(command);
  ASSERT_EQ(second["configurations"].size(), 3U);
  EXPECT_EQ(second["configurations"][1], first["configurations"][1]);  // speeds too: not measured
  EXPECT_EQ(second["configurations"][2]["bits_per_element"], 32);
  EXPECT_THAT(content(results), testing::StartsWith(cells));
}

TEST(EvalSweep, NamesWhatTheModelDoesNotSupport) {
  std::vector<std::string> command = {
      "eval", "sweep",     "-m", stories_model(), "--no-kl",  "--passkey",
      "300",  "--samples", "5",  "--no-speed",    "--config", "small heads: -ctk int8 -ctv int8"};
  expect_refused(command, {"small heads: "});
  command.insert(command.end(), {"--config", "bf16:"});
  const json both = json_of(command);
  EXPECT_THAT(both["configurations"][0]["refusal"].get<std::string>(), HasSubstr("int8"));
  EXPECT_EQ(both["configurations"][1]["passkey"]["300"]["samples"], 5);
}

TEST(EvalSensitivity, FindsATableWithinTheBudget) {
  const std::string results = temporary_path("sensitivity.jsonl"), table = temporary_path("table");
  const std::vector<std::string> command = {
      "eval",      "sensitivity", "-m",        tiny_model(), "--text",         story(),
      "--formats", "int8,int4",   "--bits",    "7",          "--context",      "64",
      "--windows", "2",           "--results", results,      "--continuation", "16",
      "-o",        table};
  const json found = json_of(command);
  ASSERT_EQ(found["sensitivity"].size(), 8U);  // 2 layers, K and V, 2 formats
  for (const json& one : found["sensitivity"]) EXPECT_GT(one["kl_mean"], 0);
  const json& measured = found["measured"];
  EXPECT_LE(measured["kv_bytes_per_token"], found["budget_bytes_per_token"]);
  EXPECT_GT(measured["kl_mean"], 0);
  // What it prints can be given to any command.
  const json kl =
      json_of({"eval", "kl", "-m", tiny_model(), "--text", story(), "--contexts", "64", "--windows",
               "2", "--continuation", "16", "--kv-layers", found["kv_layers"]});
  EXPECT_EQ(kl[0]["kl_mean"], measured["kl_mean"]);
  const json from_file =
      json_of({"eval", "kl", "-m", tiny_model(), "--text", story(), "--contexts", "64", "--windows",
               "2", "--continuation", "16", "--kv-layers", "@" + table});
  EXPECT_EQ(from_file[0]["kl_mean"], measured["kl_mean"]);
  EXPECT_EQ(json_of(command), found);  // from the file
  expect_refused({"eval", "sensitivity", "-m", tiny_model(), "--text", story()}, {"--formats"});
  expect_refused({"eval", "sensitivity", "-m", tiny_model(), "--text", story(), "--formats", "int8",
                  "-o", "/nonexistent/table"},
                 {"/nonexistent/table"});
  expect_refused({"eval", "sensitivity", "-m", tiny_model(), "--text", story(), "--formats", "int8",
                  "--budget", "8", "--context", "64", "--windows", "2", "--continuation", "16"},
                 {"bytes per token must be saved"});
}

TEST(EvalBadInput, IsNamed) {
  const std::string model = tiny_model();
  expect_refused({"eval", "kl", "-m", model, story(), "--contexts", "64,x"}, {"--contexts", "'x'"});
  expect_refused({"eval", "kl", "-m", model, story(), "--contexts", "64", "--stride", "8"},
                 {"--stride", "--contexts"});
  expect_refused({"eval", "kl", "-m", model, story(), "--contexts", "64", "-c", "80"},
                 {"192 tokens", "ctx-size is 80"});
  expect_refused({"eval", "perplexity", "-m", model, story(), "--contexts", "1"}, {"1 tokens"});
  expect_refused({"eval", "perplexity", "-m", model, story(), "--contexts", "100000"},
                 {"the text has", "100000"});
  expect_refused({"eval", "passkey", "-m", model, "--lengths", "30"}, {"30 tokens are too few"});
  expect_refused({"eval", "passkey", "-m", model, "--depths", "101"}, {"--depths has 101"});
  expect_refused({"eval", "needle", "-m", model, "--samples", "0"}, {"--samples is 0"});
  expect_refused({"eval", "needle", "-m", model, "--lengths", "512", "-c", "256"},
                 {"512", "ctx-size is 256"});
  expect_refused({"eval", "needle", "-m", model, "--filler", "/nonexistent/text"},
                 {"/nonexistent/text"});
  expect_refused({"eval", "ruler", "-m", model, "--tasks", "niah"}, {"'niah'", "niah_single"});
  expect_refused({"eval", "sweep", "-m", model, "--text", story()}, {"no configuration"});
  expect_refused({"eval", "sweep", "-m", model, "--config", "a:"}, {"--text"});
  expect_refused({"eval", "sweep", "-m", model, "--config", "a: -ctk q9_9", "--no-kl"},
                 {"configuration 'a'", "q9_9"});
  expect_refused(
      {"eval", "sweep", "-m", model, "--config", "a:", "--no-kl", "--passkey", "30", "--no-speed"},
      {"a: 30 tokens are too few"});
  expect_refused({"eval", "sweep", "-m", model, "--config", "a:", "--no-kl", "--no-speed",
                  "--results", "/nonexistent/cells", "--passkey", "300", "--samples", "0"},
                 {"--samples is 0"});
}

}  // namespace
}  // namespace larder
