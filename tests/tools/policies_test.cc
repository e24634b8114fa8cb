// The eviction policies on the command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "process.h"

namespace larder {
namespace {

using testing::HasSubstr;

TEST(Policies, ListsNamesSourcesAndParameters) {
  const Outcome text = run_larder({"policies"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("streaming-llm\n"));
  EXPECT_THAT(text.out, HasSubstr("sinks=4,every=256"));
  const Outcome run = run_larder({"policies", "--json"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  std::set<std::string> names;
  for (const auto& method : json) {
    names.insert(method["name"].get<std::string>());
    EXPECT_FALSE(method["source"].get<std::string>().empty());
    EXPECT_TRUE(method["query_agnostic"].is_boolean());
    EXPECT_FALSE(method["parameters"].empty());
  }
  EXPECT_EQ(names.size(), json.size());
  EXPECT_TRUE(names.contains("snapkv"));
}

TEST(Policies, RunSaysWhichOneItUses) {
  const Outcome run = run_larder({"run", "-m", tiny_model(), "-t", "1", "-p", "Once upon a time",
                                  "-n", "100", "--ignore-eos", "--json", "--kv-policy",
                                  "knorm:recent=8,every=32", "--kv-keep", "24"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("knorm:recent=8,every=32, 24 rows kept"));
}

TEST(Policies, BadOnesAreRefusedInOneSentence) {
  const auto refusal = [](const char* policy, const char* keep) {
    const Outcome run = run_larder(
        {"run", "-m", tiny_model(), "-p", "x", "--kv-policy", policy, "--kv-keep", keep});
    EXPECT_EQ(run.exit_code, 2);
    EXPECT_EQ(run.out, "");
    return run.err;
  };
  EXPECT_THAT(refusal("best", "0.5"), HasSubstr("kv-policy 'best' is not known"));
  EXPECT_THAT(refusal("knorm:depth=3", "0.5"), HasSubstr("no parameter 'depth'"));
  EXPECT_THAT(refusal("knorm", "half"), HasSubstr("not 'half'"));
  EXPECT_THAT(refusal("knorm", "20"), HasSubstr("4 first and 32 newest"));
  EXPECT_THAT(refusal("none", "0.5"), HasSubstr("kv-keep is '0.5', but there is no kv-policy"));
  EXPECT_THAT(refusal("kvzip:chunk=0", "0.5"), HasSubstr("a chunk above 0"));
}

TEST(Policies, NoneIsNoPolicy) {
  const auto run = [](const char* policy) {
    const Outcome outcome =
        run_larder({"run", "-m", tiny_model(), "-t", "1", "-p", "Once upon a time", "-n", "20",
                    "--temp", "0", "-q", "--kv-policy", policy, "--kv-keep-total", "0"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.out;
  };
  const std::string full = run("full");
  EXPECT_FALSE(full.empty());
  EXPECT_EQ(run("none"), full);
}

TEST(Policies, ATotalIsBytes) {
  const Outcome run = run_larder(
      {"run", "-m", tiny_model(), "-p", "x", "--kv-policy", "knorm", "--kv-keep-total", "0.25"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("--kv-keep-total"));
  EXPECT_THAT(run.err, HasSubstr("'0.25' is not a size"));
}

}  // namespace
}  // namespace larder
