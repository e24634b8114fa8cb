// Bad input: exit code 2 and one clear sentence.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "process.h"

namespace larder {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// One line, beginning with the program's name, holding every part.
void expect_refused(const std::vector<std::string>& arguments,
                    const std::vector<std::string>& parts) {
  const Outcome run = run_larder(arguments);
  EXPECT_EQ(run.exit_code, 2) << run.err;
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err, StartsWith("larder: "));
  EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
  for (const std::string& part : parts) EXPECT_THAT(run.err, HasSubstr(part));
}

std::vector<std::string> run_tiny(std::vector<std::string> more) {
  more.insert(more.begin(), {"run", "-m", tiny_model(), "-t", "1"});
  return more;
}

TEST(BadInput, Files) {
  expect_refused({"run", "-m", "/nonexistent/model.gguf", "-p", "x"}, {"/nonexistent/model.gguf"});
  expect_refused({"inspect", "/nonexistent/model.gguf"}, {"/nonexistent/model.gguf"});
  const std::string text = temporary_file("not-a-model.gguf", "this is no model file, only text");
  expect_refused({"run", "-m", text, "-p", "x"}, {text});
  expect_refused({"inspect", text}, {text});
  expect_refused({"convert", text, temporary_path("never.gguf")},
                 {text, "is it neither GGUF nor a llama2.c checkpoint?"});
  const std::string empty = temporary_file("empty.gguf", "");
  expect_refused({"run", "-m", empty, "-p", "x"}, {empty});
  expect_refused(run_tiny({"-f", "/nonexistent/prompt.txt"}), {"/nonexistent/prompt.txt"});
  expect_refused({"eval", "perplexity", "-m", tiny_model(), "/nonexistent/text.txt"},
                 {"/nonexistent/text.txt"});
  expect_refused(run_tiny({"--kv-layers", "@/nonexistent/table"}),
                 {"--kv-layers", "/nonexistent/table"});
  const std::string table = temporary_file("table", "0:bf16 # the first\n1:rot4/nothing\n");
  expect_refused(run_tiny({"--kv-layers", "@" + table}), {"kv-layers", "'nothing'"});
}

TEST(BadInput, LostStandardOutputIsAFailure) {
  const std::string text = temporary_file("words.txt", "some words to be scored");
  const std::vector<std::vector<std::string>> commands = {
      {"inspect", tiny_model()},
      {"run", "-m", tiny_model(), "-p", "x", "-n", "4", "-t", "1", "-q"},
      {"eval", "perplexity", "-m", tiny_model(), text, "-c", "64", "-t", "1"},
      {"--help"}};
  for (const auto& command : commands) {
    const Outcome run = run_larder_to("/dev/full", command);
    EXPECT_EQ(run.exit_code, 1) << command[0];
    EXPECT_THAT(run.err, HasSubstr("standard output cannot be written")) << command[0];
  }
}

TEST(BadInput, TextsThatAreNone) {
  const Outcome run = run_larder_to("/dev/null", run_tiny({}), "/");
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("standard input: is a directory"));
  const std::string huge = temporary_file("huge.txt", "");
  std::filesystem::resize_file(huge, std::uintmax_t{20} << 30);  // a hole: it takes no disk
  expect_refused({"eval", "perplexity", "-m", tiny_model(), huge}, {huge, "21474836480 bytes"});
  expect_refused(run_tiny({"-f", huge}), {huge, "21474836480 bytes"});
}

TEST(BadInput, TruncatedModels) {
  const std::string whole = content(tiny_model());
  for (const std::size_t n : {std::size_t{3}, std::size_t{20}, std::size_t{500}, std::size_t{9000},
                              whole.size() / 2, whole.size() - 1}) {
    const std::string path = temporary_file("truncated.gguf", whole.substr(0, n));
    expect_refused({"run", "-m", path, "-p", "x"}, {path});
    expect_refused({"inspect", path}, {path});
  }
}

TEST(BadInput, Prompts) {
  expect_refused(run_tiny({"-p", ""}), {"the prompt is empty"});
  expect_refused(run_tiny({}), {"the prompt is empty"});  // an empty pipe
  expect_refused(run_tiny({"-p", std::string(100, 'x'), "-c", "32"}), {"104 tokens", "32"});
  expect_refused(run_tiny({"-p", "x", "--chat"}), {"chat template"});
  expect_refused(run_tiny({"-p", "x", "--system", "be kind"}), {"chat template"});
}

TEST(BadInput, FlagsAreNamedWithTheirValues) {
  expect_refused(run_tiny({"-p", "x", "--no-such-flag"}), {"--no-such-flag"});
  expect_refused(run_tiny({"-p", "x", "-c", "many"}), {"--ctx-size", "'many'"});
  expect_refused(run_tiny({"-p", "x", "-c", "-1"}), {"--ctx-size", "'-1'"});
  expect_refused(run_tiny({"-p", "x", "-ctk", "q9_9"}), {"cache-type-k", "'q9_9'"});
  expect_refused(run_tiny({"-p", "x", "--isa", "mmx"}), {"isa", "'mmx'"});
  expect_refused(run_tiny({"-p", "x", "--block-size", "17"}), {"block-size", "17"});
  expect_refused(run_tiny({"-p", "x", "--kv-memory", "2 gigs"}), {"--kv-memory", "'2 gigs'"});
  expect_refused(run_tiny({"-p", "x", "--kv-memory", "2Q"}), {"--kv-memory", "'2Q'"});
  expect_refused(run_tiny({"-p", "x", "--temp", "warm"}), {"--temp", "'warm'"});
  expect_refused(run_tiny({"-p", "x", "--temp", "-1"}), {"temperature", "-1"});
  expect_refused(run_tiny({"-p", "x", "--logit-bias", "5"}), {"--logit-bias", "'5'"});
  expect_refused(run_tiny({"-p", "x", "-n", "0"}), {"--predict"});
  expect_refused(run_tiny({"-p", "x", "-n", "-2"}), {"--predict is -2"});
  expect_refused(run_tiny({"-p", "x", "-s", "-2"}), {"--seed is -2"});
  expect_refused(run_tiny({"-p", "x", "--samples", "100000000"}), {"--samples is 100000000"});
  expect_refused(run_tiny({"-p", "x", "-np", "0"}), {"--parallel is 0"});
  expect_refused(run_tiny({"-p", "x", "--stop", ""}), {"--stop is empty"});
  expect_refused(run_tiny({"-p", "x", "--kv-cache-dtype", "fp9"}), {"--kv-cache-dtype", "'fp9'"});
  expect_refused(run_tiny({"-p", "x", "--logprobs", "2"}), {"--logprobs", "--json"});
  expect_refused(run_tiny({"-p", "x", "--json-schema", "{\"format\":1}"}), {"'format'"});
  expect_refused(run_tiny({"-p", "x", "-j", "{}", "--json-schema-file", "f"}), {"exclude"});
  expect_refused(run_tiny({"-p", "x", "-f", "y"}), {"--prompt", "--file"});
  expect_refused({"run", "-p", "x"}, {"--model"});
  expect_refused({"no-such-command"}, {"no-such-command"});
  expect_refused({}, {"subcommand"});
}

TEST(BadInput, ASmallBudgetIsRefusedWithTheArithmetic) {
  expect_refused(run_tiny({"-p", "x", "--kv-memory", "64K", "-c", "4096"}),
                 {"64 KiB", "4096", "2 layers", "2 KV heads", "per token"});
}

TEST(BadInput, Measurements) {
  expect_refused({"bench", "-m", tiny_model(), "-p", "1,,2"}, {"--n-prompt", "'1,,2'"});
  expect_refused({"bench", "-m", tiny_model(), "-o", "xml"}, {"'xml'", "json"});
  expect_refused({"bench", "-m", tiny_model(), "-b", "0"}, {"--batch", "0"});
  expect_refused({"bench"}, {"--model"});
  expect_refused({"bench", "--random-model", "GPT-9"}, {"'GPT-9'", "Qwen3-0.6B"});
  expect_refused({"bench", "--random-model", "tiny", "--type", "q7"}, {"--type", "'q7'"});
  const std::string text = temporary_file("text.txt", "some words to be scored");
  expect_refused({"eval", "perplexity", "-m", tiny_model(), text, "-c", "64", "--stride", "64"},
                 {"stride", "64"});
  expect_refused({"eval", "perplexity", "-m", tiny_model(), text, "-c", "1"},
                 {"ctx-size is 1, must be at least 2"});
  expect_refused(run_tiny({"-p", "x", "-c", "32", "-c", "many"}), {"'many'"});  // the last counts
  const std::string empty = temporary_file("empty.txt", "");
  expect_refused({"eval", "perplexity", "-m", tiny_model(), empty}, {empty, "empty"});
  expect_refused({"inspect", tiny_model(), "--memory", "8X"}, {"--memory", "'8X'"});
}

}  // namespace
}  // namespace larder
