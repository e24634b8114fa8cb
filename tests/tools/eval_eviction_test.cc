// What `make eviction` runs, on a small scale.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/scratch_dir.h"
#include "process.h"
#include "svg_check.h"

namespace larder {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string story_file(const ScratchDir& dir) {
  std::string text;
  for (int i = 0; i < 60; ++i) {
    text += "Once upon a time there was a little girl who had " + std::to_string(i) + " dogs. ";
  }
  dir.write("story.txt", text);
  return dir.path("story.txt");
}

TEST(EvalEviction, ReportsQualityBytesAndAnswersInOneCommand) {
  const ScratchDir dir;
  const std::vector<std::string> command = {
      "eval",
      "sweep",
      "-m",
      tiny_model(),
      "-t",
      "1",
      "--text",
      story_file(dir),
      "--contexts",
      "128",
      "--continuation",
      "8",
      "--windows",
      "1",
      "--no-speed",
      "--samples",
      "2",
      "--task-lengths",
      "300",
      "--tasks",
      "niah_single,niah_multivalue",
      "--config",
      "full:",
      "--config",
      "knorm 1/4: --kv-policy knorm:recent=8 --kv-keep 0.25",
      "--config",
      "snapkv 1/4: --kv-policy snapkv:recent=8,window=8 --kv-keep 0.25",
      "--results",
      dir.path("cells.jsonl"),
      "--svg",
      dir.path("kl.svg"),
      "--task-svg",
      dir.path("tasks.svg"),
      "--report",
      dir.path("eviction.md"),
      "--json"};
  const Outcome run = run_larder(command);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const json rows = json::parse(run.out)["configurations"];
  ASSERT_EQ(rows.size(), 3U);
  for (const json& row : rows) {
    ASSERT_EQ(row["tasks"].size(), 4U);  // two tasks, each asked in two ways
    EXPECT_EQ(row["tasks"]["niah_single, visible"]["300"]["samples"], 2);
  }
  EXPECT_EQ(rows[0]["kl"]["128"]["kl_mean"], 0);
  EXPECT_GT(rows[1]["kl"]["128"]["kl_mean"], 0);
  // One block of 32 rows instead of four, and the open one.
  EXPECT_LT(rows[1]["bytes_per_token"].get<double>(), rows[0]["bytes_per_token"].get<double>() / 2);
  // Without a policy the question's place changes nothing.
  EXPECT_EQ(rows[0]["tasks"]["niah_single, visible"]["300"]["right"],
            rows[0]["tasks"]["niah_single, hidden"]["300"]["right"]);
  EXPECT_TRUE(is_well_formed(dir.read("kl.svg")));
  EXPECT_TRUE(is_well_formed(dir.read("tasks.svg")));
  EXPECT_THAT(dir.read("eviction.md"), HasSubstr("niah_multivalue, hidden@300"));
  EXPECT_THAT(dir.read("eviction.md"), HasSubstr("(tasks.svg)"));
  // All of it is in the file of results by now.
  EXPECT_EQ(run_larder(command).out, run.out);
}

TEST(EvalEviction, QuestionsAreHiddenOrVisible) {
  const auto passkey = [](const char* question) {
    return run_larder({"eval", "passkey", "-m", tiny_model(), "-t", "1", "--lengths", "300",
                       "--samples", "1", "--depths", "50", "--question", question, "--json"});
  };
  EXPECT_EQ(json::parse(passkey("visible").out)["question"], "visible");
  EXPECT_EQ(json::parse(passkey("hidden").out)["question"], "hidden");
  const Outcome refused = passkey("nowhere");
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("'nowhere' is no place of a question: hidden, visible"));
  const Outcome halves = run_larder({"eval", "sweep", "-m", tiny_model(), "--no-kl", "--no-speed",
                                     "--config", "a:", "--tasks", "niah_single"});
  EXPECT_EQ(halves.exit_code, 2);
  EXPECT_THAT(halves.err, HasSubstr("--tasks and --task-lengths go together"));
}

}  // namespace
}  // namespace larder
