// Budgets in bytes, by file, and policies in files, in a whole engine.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "engine/policy_runs.h"
#include "engine/schedule_runs.h"

namespace larder {
namespace {

using namespace schedule;

constexpr const char* kHeads = LARDER_TEST_DATA "/policy/heads_5x4.tsv";  // of stories260K

EngineOptions with_policy(const std::string& policy, const std::string& keep) {
  EngineOptions options = base_options();
  options.n_context = 1024;
  options.kv.policy = policy;
  options.kv.keep = keep;
  return options;
}

std::string refusal(const EngineOptions& options) {
  auto engine = Engine::open(options);
  return engine ? "accepted" : engine.error().message;
}

TEST(HeadBudgets, HeadsThatKeepEverythingTakeTheirBlocksAndNoMore) {
  EngineOptions options = with_policy("", "");
  const auto engine = open_engine(options);
  const std::uint64_t block = engine->stats().kv_budget_bytes / 64 / 20;  // 20 heads
  options = with_policy(std::string("duo-attention:sinks=16,every=64,heads=") + kHeads, "128");
  // 704 tokens, a multiple of 64: ten heads have 44 blocks, ten have 8.
  const std::uint64_t bytes = bytes_behind_prompt(options, 704);
  EXPECT_EQ(bytes / block, 10 * 44 + 10 * 8);
  EXPECT_LE(bytes, open_engine(options)->stats().kv_budget_bytes);
}

TEST(HeadBudgets, BytesAreABudgetInWholeBlocks) {
  EngineOptions options = with_policy("", "");
  const std::uint64_t full = open_engine(options)->stats().kv_budget_bytes;  // of 1024 rows
  for (const char* policy : {"snapkv", "ada-snapkv", "pyramidkv", "knorm:every=0"}) {
    for (const std::uint64_t n_kib : {full / 4096, full / 8192 + 3}) {
      options.kv.policy = policy;
      options.kv.keep = std::to_string(n_kib) + "K";
      const std::uint64_t bytes = bytes_behind_prompt(options, 900);
      EXPECT_LE(bytes, n_kib * 1024) << policy;
      EXPECT_GE(bytes, n_kib * 1024 * 7 / 10) << policy;  // blocks of 16 rows, of some hundred
    }
  }
  options.kv.policy = "knorm";
  options.kv.keep = std::to_string(full / 32 / 1024) + "K";  // 32 rows, 36 are protected
  EXPECT_NE(refusal(options).find("stay in any case"), std::string::npos) << refusal(options);
  options.kv.keep = "1K";
  EXPECT_NE(refusal(options).find("stay in any case"), std::string::npos) << refusal(options);
}

TEST(HeadBudgets, RefusalsNameTheFile) {
  EXPECT_NE(refusal(with_policy("duo-attention", "300")).find("needs heads=FILE"),
            std::string::npos);
  const std::string duo = std::string("duo-attention:heads=") + kHeads;
  EXPECT_EQ(refusal(with_policy(duo, "300")), "accepted");
  EXPECT_NE(refusal(with_policy(duo, "64M")).find("keeps every row of some heads"),
            std::string::npos);
  EXPECT_NE(refusal(with_policy("knorm:heads=/no/such/file", "300")).find("/no/such/file"),
            std::string::npos);
  EXPECT_NE(refusal(with_policy("knorm:heads=" LARDER_TEST_DATA, "300")).find("is no file"),
            std::string::npos);
  const ScratchDir dir;
  dir.write("heads.tsv", "1 2 3 4\n1 2 3 4\n");
  const std::string other = refusal(with_policy("knorm:heads=" + dir.path("heads.tsv"), "300"));
  EXPECT_NE(other.find("weights of 2 layers x 4 KV heads, but the model has 5 x 4"),
            std::string::npos)
      << other;
}

TEST(PolicyFile, IsThePolicyThatItNames) {
  const ScratchDir dir;
  dir.write("p.yaml", "method: snapkv\nrecent: 8\nwindow: 8\nevery: 20\n");
  dir.write("bad.yaml", "method: snapkv\nrecent: many\n");
  std::mt19937 random(36);
  const auto requests = make_requests(random, 4);
  EngineOptions options = base_options();
  options.kv.keep = "30";
  options.kv.policy = "snapkv:recent=8,window=8,every=20";
  const auto expected = run_alone(requests, options);
  options.kv.policy = dir.path("p.yaml");
  EXPECT_EQ(run_alone(requests, options), expected);
  options.kv.policy = dir.path("bad.yaml");
  EXPECT_NE(refusal(options).find("bad.yaml, line 2: recent must be from"), std::string::npos);
  options.kv.policy = dir.path("none.yaml");
  EXPECT_NE(refusal(options).find("cannot read"), std::string::npos);
}

}  // namespace
}  // namespace larder
