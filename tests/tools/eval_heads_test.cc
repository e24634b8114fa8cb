// Heads that look far: measured, written, and used by a policy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "model/scratch_dir.h"
#include "policy/head_budgets.h"
#include "process.h"

namespace larder {
namespace {

using testing::HasSubstr;

TEST(EvalHeads, WritesWeightsThatAPolicyReads) {
  const ScratchDir dir;
  const std::string path = dir.path("heads.tsv");
  const Outcome run =
      run_larder({"eval", "heads", "-m", tiny_model(), "-t", "1", "--words", "80", "--sinks", "4",
                  "--recent", "20", "--passages", "2", "-o", path, "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  const auto weights = parse_head_weights(dir.read("heads.tsv"), path);
  ASSERT_TRUE(weights) << weights.error().message;
  EXPECT_EQ(weights->n_layers, json["n_layers"].get<std::uint32_t>());
  EXPECT_EQ(weights->n_heads, json["n_kv_heads"].get<std::uint32_t>());
  double sum = 0;
  for (const float w : weights->weights) {
    EXPECT_LE(w, 1.0F);
    sum += double{w};
  }
  EXPECT_GT(sum, 0.0);
  const Outcome used = run_larder(
      {"run", "-m", tiny_model(), "-t", "1", "-p", "Once upon a time", "-n", "100", "--ignore-eos",
       "--json", "--kv-policy", "duo-attention:sinks=4,every=32,heads=" + path, "--kv-keep", "24"});
  EXPECT_EQ(used.exit_code, 0) << used.err;
  EXPECT_THAT(used.out, HasSubstr("duo-attention"));
}

/// Neither the threads nor the rows of a step change a bit.
TEST(EvalHeads, DependsOnTheTextAlone) {
  const auto weights = [](const char* threads, const char* rows) {
    return run_larder({"eval", "heads", "-m", tiny_model(), "-t", threads, "-ub", rows, "--words",
                       "70", "--sinks", "2", "--recent", "10", "--passages", "1", "--json"})
        .out;
  };
  const std::string one = weights("1", "512");
  EXPECT_THAT(one, HasSubstr("weights"));
  EXPECT_EQ(weights("2", "33"), one);
}

TEST(EvalHeads, RefusesWhatMakesNoSense) {
  const auto refusal = [](const char* words, const char* passages) {
    const Outcome run = run_larder({"eval", "heads", "-m", tiny_model(), "--words", words,
                                    "--passages", passages, "--sinks", "4", "--recent", "20"});
    EXPECT_EQ(run.exit_code, 2);
    return run.err;
  };
  EXPECT_THAT(refusal("24", "1"), HasSubstr("leaves nothing beyond 4 first and 20 newest"));
  EXPECT_THAT(refusal("100000", "1"), HasSubstr("longer than the model's context"));
  EXPECT_THAT(refusal("80", "0"), HasSubstr("--passages is 0"));
}

}  // namespace
}  // namespace larder
