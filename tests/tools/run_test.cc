// larder run, as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "process.h"

namespace larder {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::vector<std::string> story(std::vector<std::string> more) {
  more.insert(more.begin(), {"run", "-m", stories_model(), "-t", "1"});
  return more;
}

TEST(Run, CompletesAPromptOnStandardOutput) {
  const Outcome run = run_larder(story({"-p", "Once upon a time", "-n", "12", "--temp", "0"}));
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, StartsWith(", there was a little girl"));
  EXPECT_THAT(run.out, Not(HasSubstr("\x1b")));
  for (const char* said : {"model", "prompt", "generated", "prefill", "decode", "first token",
                           "KV cache", "KV per token", "engine"}) {
    EXPECT_THAT(run.err, HasSubstr(said));
  }
  EXPECT_THAT(run.err, Not(HasSubstr("\x1b")));
}

TEST(Run, NamesFormatsByLayerWhereTheyDiffer) {
  const Outcome run = run_larder(story({"-p", "Once", "-n", "2", "--kv-layers", "0-1:f32,2-:f16"}));
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, Not(HasSubstr("bf16")));
  EXPECT_THAT(run.err, HasSubstr("0-1: K f32, V f32; 2-4: K f16, V f16"));
  const Outcome wrong = run_larder(story({"-p", "Once", "--kv-layers", "0-1:,2-:f16"}));
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("the format in '0-1:' must be one of"));
}

TEST(Run, RefusesFormatsThatAreGivenTwice) {
  const Outcome run = run_larder(story({"-p", "Once", "--kv-cache-dtype", "f16", "-ctk", "f32"}));
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("--kv-cache-dtype"));
}

TEST(Run, TakesThePromptFromAPipeOrAFile) {
  const std::string prompt = "Once upon a time";
  const std::string file = temporary_file("prompt.txt", prompt + "\n");
  const Outcome direct = run_larder(story({"-p", prompt, "-n", "8", "--temp", "0", "-q"}));
  const Outcome piped = run_larder(story({"-n", "8", "--temp", "0", "-q"}), prompt + "\n");
  const Outcome read = run_larder(story({"-f", file, "-n", "8", "--temp", "0", "-q"}));
  EXPECT_EQ(piped.exit_code, 0) << piped.err;
  EXPECT_EQ(piped.out, direct.out);
  EXPECT_EQ(read.out, direct.out);
  EXPECT_EQ(direct.err, "");
}

TEST(Run, TheSameSeedGivesTheSameText) {
  const auto text = [](const std::string& seed) {
    return run_larder(story({"-p", "One day", "-n", "24", "-s", seed, "--temp", "1.2", "-q"})).out;
  };
  EXPECT_EQ(text("7"), text("7"));
  EXPECT_NE(text("7"), text("8"));
}

TEST(Run, PrintsOneJsonObject) {
  const Outcome run = run_larder(story({"-p", "Once upon a time", "-n", "5", "--samples", "2",
                                        "--logprobs", "3", "--json", "-s", "1"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const json report = json::parse(run.out);
  EXPECT_EQ(report["seed"], 1);
  EXPECT_GT(report["prompt_tokens"], 0);
  ASSERT_EQ(report["samples"].size(), 2U);
  for (const json& sample : report["samples"]) {
    EXPECT_EQ(sample["tokens"].size(), 5U);
    EXPECT_EQ(sample["finish_reason"], "length");
    ASSERT_EQ(sample["logprobs"].size(), 5U);
    for (const json& entry : sample["logprobs"]) {
      EXPECT_LE(entry["logprob"], 0);
      EXPECT_EQ(entry["top"].size(), 3U);
    }
  }
  EXPECT_GT(report["kv"]["peak_bytes"], 0);
  EXPECT_LE(report["kv"]["peak_bytes"], report["kv"]["budget_bytes"]);
  EXPECT_GT(report["timing"]["first_token_seconds"], 0);
}

TEST(Run, KeepsToASchema) {
  const Outcome run =
      run_larder(story({"-p", "Once", "-n", "64", "-q", "-s", "3", "-j",
                        R"({"type":"array","items":{"enum":["a",1]},"minItems":2,"maxItems":4})"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const json list = json::parse(run.out);
  EXPECT_GE(list.size(), 2U);
  EXPECT_LE(list.size(), 4U);
}

TEST(Run, StopsAtAStopString) {
  const Outcome run = run_larder(story({"-p", "Once upon a time", "-n", "64", "--temp", "0", "-q",
                                        "--stop", "zzz", "--stop", "little"}));
  EXPECT_EQ(run.out, ", there was a \n");
}

TEST(Run, BiasForcesAToken) {
  const Outcome run = run_larder(story({"-p", "Once", "-n", "3", "--json", "--temp", "0",
                                        "--logit-bias", "300=100", "--logit-bias", "301=-100"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(json::parse(run.out)["samples"][0]["tokens"], json({300, 300, 300}));
}

TEST(Run, AcceptsTheSpellingsOfOtherEngines) {
  const Outcome run = run_larder(
      story({"-p", "Once", "-n", "2", "--max-model-len", "64", "-ub", "16", "-np", "2", "-ctk",
             "f16", "-ctv", "f32", "--kv-cache-memory-bytes", "1M", "--block-size", "16"}));
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("K f16, V f32, 16-token blocks"));
  const Outcome both =
      run_larder(story({"-p", "Once", "-n", "2", "--kv-cache-dtype", "float16", "-c", "64",
                        "--max-num-seqs", "1", "--max-num-batched-tokens", "8"}));
  EXPECT_THAT(both.err, HasSubstr("K f16, V f16"));
}

TEST(Run, ConversesOnATerminal) {
  const Outcome chat = type_to_larder(story({"-n", "6", "--temp", "0"}),
                                      "/help\nOnce upon a time\n She\n/stats\n/nonsense\n/clear\n"
                                      "Once upon a time\n/exit\n");
  EXPECT_EQ(chat.exit_code, 0) << chat.err;
  EXPECT_THAT(chat.err, HasSubstr("no chat template"));
  EXPECT_THAT(chat.err, HasSubstr("/clear  forget"));
  EXPECT_THAT(chat.err, HasSubstr("from the kept cache"));
  EXPECT_THAT(chat.err, HasSubstr("'/nonsense' is no command"));
  const std::string first = chat.out.substr(0, chat.out.find('\n'));
  EXPECT_THAT(chat.out, testing::EndsWith(first + "\n"));  // forgotten, so the same again
}

TEST(Run, AFullTextForgetsItsOldestPart) {
  const Outcome chat = type_to_larder(story({"-c", "64", "--temp", "0", "--ignore-eos"}),
                                      "Once upon a time\n She\n One day\n Then\n/exit\n");
  EXPECT_EQ(chat.exit_code, 0) << chat.err;
  EXPECT_THAT(chat.err, HasSubstr("the context is full, the reply ends here"));
  EXPECT_THAT(chat.err, HasSubstr("oldest part of the conversation no longer fits"));
  EXPECT_THAT(chat.err, Not(HasSubstr("the context holds")));
}

TEST(Run, TheConversationEndsWithTheInput) {
  const Outcome chat = type_to_larder(story({"-n", "2"}), "Once\n\x04");
  EXPECT_EQ(chat.exit_code, 0) << chat.err;
}

TEST(Run, CtrlCStopsCleanly) {
  const Outcome run = interrupt_larder({"run", "-m", tiny_model(), "-p", "a", "-n", "-1", "-c",
                                        "32768", "--ignore-eos", "--temp", "0"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.err, HasSubstr("KV cache"));
}

}  // namespace
}  // namespace larder
