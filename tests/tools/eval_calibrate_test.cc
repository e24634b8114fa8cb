// A model's keys: calibrated on a text, written, and used by a format.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "codec/key_calibration.h"
#include "model/scratch_dir.h"
#include "process.h"

namespace larder {
namespace {

using testing::HasSubstr;

// Some hundred tokens of words that do not repeat in order.
std::string words() {
  const std::vector<std::string> some = {"once", "upon", "a", "time", "there", "was", "little"};
  std::string text;
  for (std::size_t i = 0; i < 400; ++i) text += some[(i * i + i / 7) % some.size()] + " ";
  return text;
}

Outcome calibrate(const ScratchDir& dir, const std::string& output,
                  const std::vector<std::string>& more = {}) {
  dir.write("text", words());
  std::vector<std::string> arguments = {
      "eval",           "calibrate", "-m",  tiny_model(),   "-t",  "1",  "--text",
      dir.path("text"), "-c",        "128", "--max-tokens", "700", "-o", dir.path(output)};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_larder(arguments);
}

TEST(EvalCalibrate, WritesWhatAFormatReads) {
  const ScratchDir dir;
  const Outcome run = calibrate(dir, "keys");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("2 layers x 2 KV heads x 16 channels, from "));
  const auto keys = parse_key_calibration(dir.read("keys"), "keys");
  ASSERT_TRUE(keys) << keys.error().message;
  EXPECT_GT(keys->n_tokens, 300U);
  const auto kl = [&](const std::string& type) {
    const Outcome scored =
        run_larder({"eval", "kl", "-m", tiny_model(), "-t", "1", "-c", "128", "--text",
                    dir.path("text"), "--max-tokens", "300", "-ctk", type, "-ctv", "bf16",
                    "--kv-calibration", dir.path("keys"), "--json"});
    EXPECT_EQ(scored.exit_code, 0) << scored.err;
    return nlohmann::json::parse(scored.out)["kl_mean"].get<double>();
  };
  const double four = kl("kvq4"), two = kl("kvq2");
  EXPECT_GT(four, 0);
  EXPECT_LT(four, two);
}

/// Neither the threads nor the rows of a step change a byte.
TEST(EvalCalibrate, DependsOnTheTextAlone) {
  const ScratchDir dir;
  ASSERT_EQ(calibrate(dir, "one").exit_code, 0);
  ASSERT_EQ(calibrate(dir, "two", {"-t", "2", "-ub", "33"}).exit_code, 0);
  EXPECT_EQ(dir.read("one"), dir.read("two"));
  ASSERT_EQ(calibrate(dir, "fewer", {"--max-tokens", "100"}).exit_code, 0);
  EXPECT_NE(dir.read("one"), dir.read("fewer"));
}

TEST(EvalCalibrate, RefusesWhatMakesNoSense) {
  const ScratchDir dir;
  const Outcome without = run_larder({"eval", "calibrate", "-m", tiny_model(), "-o", "x"});
  EXPECT_EQ(without.exit_code, 2);
  EXPECT_THAT(without.err, HasSubstr("--text"));
  dir.write("empty", "");
  const Outcome empty = calibrate(dir, "keys", {"--text", dir.path("empty")});
  EXPECT_EQ(empty.exit_code, 2);
  EXPECT_THAT(empty.err, HasSubstr("the text is empty"));
  const Outcome unused = run_larder({"run", "-m", tiny_model(), "-p", "x", "-ctk", "kvq2"});
  EXPECT_EQ(unused.exit_code, 2);
  EXPECT_THAT(unused.err, HasSubstr("cache-type-k kvq2 of layer 0 needs a kv-calibration"));
}

}  // namespace
}  // namespace larder
