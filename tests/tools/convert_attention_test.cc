// larder convert --kv-heads and larder eval kl, as a user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "process.h"

namespace larder {
namespace {

using testing::HasSubstr;

std::string story() { return std::string(LARDER_TEST_DATA) + "/perplexity/story.txt"; }

TEST(ConvertAttention, ReportsWhatPoolingCosts) {
  const std::string output = temporary_path("pooled.gguf");
  const auto report_of = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        "convert",  stories_model(), output,   "--kv-heads",      "2",
        "--report", story(),         "--json", "--report-tokens", "200"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_larder(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out)["report"];
  };
  const auto plain = report_of({}), aligned = report_of({"--align"});
  EXPECT_EQ(plain["scored_tokens"], 200);
  EXPECT_EQ(plain["kv_bytes_per_token"].get<int>() * 2,
            plain["reference_kv_bytes_per_token"].get<int>());
  EXPECT_EQ(plain["model_path"], output);
  EXPECT_EQ(plain["reference_perplexity"], aligned["reference_perplexity"]);
  EXPECT_GT(plain["kl_mean"].get<double>(), 2 * aligned["kl_mean"].get<double>());
  EXPECT_GT(plain["perplexity"].get<double>(), aligned["perplexity"].get<double>());
}

TEST(ConvertAttention, KeepsTheRestOfAGgufFile) {
  const std::string output = temporary_path("kept.gguf");
  ASSERT_EQ(run_larder({"convert", stories_model(), output, "--kv-heads", "1"}).exit_code, 0);
  const Outcome outcome = run_larder({"inspect", output, "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Outcome before = run_larder({"inspect", stories_model(), "--json"});
  const auto a = nlohmann::json::parse(before.out), b = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(a["name"], b["name"]);
  const std::string text = "Once upon a time";
  EXPECT_EQ(run_larder({"tokenize", "-m", output}, text).out,
            run_larder({"tokenize", "-m", stories_model()}, text).out);
}

TEST(ConvertAttention, RefusesWhatMakesNoSense) {
  const std::string out = temporary_path("never.gguf");
  const auto error_of = [](const std::vector<std::string>& arguments) {
    const Outcome outcome = run_larder(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.out;
    return outcome.err;
  };
  EXPECT_THAT(error_of({"convert", stories_model(), out, "--kv-heads", "3"}),
              HasSubstr("kv-heads is 3; the model has 4 KV heads, which can become 1 or 2"));
  EXPECT_THAT(error_of({"convert", stories_model(), out, "--kv-heads", "4"}),
              HasSubstr("which can become 1 or 2"));
  EXPECT_THAT(error_of({"convert", stories_model(), out, "--align"}),
              HasSubstr("--align goes with --kv-heads"));
  EXPECT_THAT(error_of({"convert", stories_model(), out}), HasSubstr("a GGUF file already"));
  EXPECT_THAT(error_of({"convert", stories_model(), out, "--kv-heads", "2", "--to", "hf"}),
              HasSubstr("written from another one only"));
  EXPECT_THAT(error_of({"convert", stories_model(), out, "--kv-heads", "2", "--to", "onnx"}),
              HasSubstr("'onnx' is neither gguf nor hf"));
  EXPECT_THAT(error_of({"convert", stories_model(), stories_model(), "--kv-heads", "2"}),
              HasSubstr("input and output are the same"));
  EXPECT_THAT(error_of({"eval", "kl", "-m", stories_model(), "--reference", tiny_model(), story()}),
              HasSubstr("have different vocabularies"));
  EXPECT_THAT(error_of({"eval", "kl", "-m", stories_model(), "/nowhere"}), HasSubstr("/nowhere"));
  EXPECT_FALSE(std::ifstream(out).good());
}

TEST(ConvertAttention, LooksForTheTextsBeforeItWrites) {
  const std::string out = temporary_path("unwritten.gguf");
  const std::string empty = temporary_file("empty.txt", "");
  const auto expect_refused = [&](const std::vector<std::string>& more, const std::string& words) {
    std::vector<std::string> arguments = {"convert", stories_model(), out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_larder(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.out;
    EXPECT_THAT(outcome.err, HasSubstr(words));
    EXPECT_FALSE(std::ifstream(out).good());
  };
  expect_refused({"--kv-heads", "2", "--report", "/nowhere.txt"}, "/nowhere.txt: No such file");
  expect_refused({"--kv-heads", "2", "--report", "/"}, "/: is a directory");
  expect_refused({"--mla", "--report", empty}, empty + ": the text is empty");
  expect_refused({"--mla", "--calibrate", "/nowhere.txt"}, "/nowhere.txt: No such file");
  expect_refused({"--mla", "--calibrate", story(), "--report", "/nowhere.txt"}, "/nowhere.txt");
}

TEST(ConvertAttention, ALatentModelIsLatentAlready) {
  const std::string latent = temporary_path("latent.gguf"), out = temporary_path("twice.gguf");
  ASSERT_EQ(run_larder({"convert", stories_model(), latent, "--mla"}).exit_code, 0);
  const Outcome outcome = run_larder({"convert", latent, out, "--mla"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("deepseek2 has latent attention already\n"));
}

TEST(EvalKl, OfAModelAgainstItselfIsZero) {
  const Outcome outcome =
      run_larder({"eval", "kl", "-m", stories_model(), "--text", story(), "-c", "128"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("mean 0.000000, median 0.000000, 99 % 0.00000, max 0.0000"));
  EXPECT_THAT(outcome.out, HasSubstr("100.00 %"));
}

}  // namespace
}  // namespace larder
