#include "calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "process.h"

namespace larder {
namespace {

using testing::HasSubstr;

std::string story() { return std::string(LARDER_TEST_DATA) + "/perplexity/story.txt"; }

Result<InputMoments> moments_of(std::uint32_t n_context, std::uint32_t n_batch = 512) {
  CalibrationOptions options;
  options.engine.model_path = stories_model();
  options.engine.n_context = n_context;
  options.engine.n_batch = n_batch;
  options.engine.n_threads = 1;
  options.text_path = story();
  options.max_tokens = 150;
  return measure_input_moments(options);
}

TEST(MeasureInputMoments, AreMomentsOfNormedRowsWithAOneBehind) {
  const auto moments = moments_of(64);  // two windows and a part of one
  ASSERT_TRUE(moments) << moments.error().message;
  ASSERT_EQ(moments->size(), 5U);
  for (const InputMoment& moment : *moments) {
    const Matrix& m = moment.full;
    ASSERT_EQ(m.rows, 65U);
    EXPECT_DOUBLE_EQ(m(64, 64), 1);
    for (std::size_t i = 0; i < 64; ++i) {
      EXPECT_GE(m(i, i), m(i, 64) * m(i, 64));  // a second moment is no less than a squared mean
      EXPECT_EQ(m(i, 64), m(64, i));
    }
    const SymmetricEigen eigen = eigen_symmetric(m);
    EXPECT_GT(eigen.values.back(), 0);
  }
}

TEST(MeasureInputMoments, DoNotDependOnTheStepsButOnTheWindows) {
  const auto a = moments_of(256), b = moments_of(256, 7), c = moments_of(32);
  ASSERT_TRUE(a && b && c);
  double windows_matter = 0;
  for (std::size_t layer = 0; layer < a->size(); ++layer) {
    const auto &x = (*a)[layer].full.values, &y = (*b)[layer].full.values;
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_NEAR(x[i], y[i], 1e-9 * (1 + std::abs(x[i])));
      windows_matter += std::abs(x[i] - (*c)[layer].full.values[i]);
    }
  }
  EXPECT_GT(windows_matter, 1e-3);
}

TEST(Calibrate, LosesLessOnItsText) {
  const auto divergence = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        "convert", stories_model(),   "-o", temporary_path("calibrated.gguf"), "--report", story(),
        "--json",  "--report-tokens", "300"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_larder(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out)["report"]["kl_mean"].get<double>();
  };
  EXPECT_LT(divergence({"--kv-heads", "2", "--align", "--calibrate", story()}),
            divergence({"--kv-heads", "2", "--align"}));
  EXPECT_LT(divergence({"--mla", "--calibrate", story()}), divergence({"--mla"}));
}

TEST(LatentNorm, LinearKeepsTheTypeItNeeds) {
  const std::string out = temporary_path("linear.gguf");
  const Outcome outcome = run_larder({"convert", stories_model(), "-o", out, "--mla",
                                      "--latent-norm", "linear", "--type", "q8_0", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, testing::Not(HasSubstr("attn_kv_a_mqa")));  // no type stood in
  const Outcome tensors = run_larder({"inspect", out, "--tensors"});
  EXPECT_THAT(tensors.out, testing::ContainsRegex("blk.0.attn_kv_a_mqa.weight +f32"));
}

TEST(Calibrate, RefusesWhatMakesNoSense) {
  const std::string out = temporary_path("never.gguf");
  const auto error_of = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"convert", stories_model(), "-o", out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_larder(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.out;
    return outcome.err;
  };
  EXPECT_THAT(error_of({"--kv-heads", "2", "--calibrate", story()}),
              HasSubstr("--calibrate goes with --align or --mla"));
  EXPECT_THAT(error_of({"--mla", "--calibrate", "/nowhere"}), HasSubstr("/nowhere"));
  EXPECT_THAT(error_of({"--mla", "--calibrate", "/dev/null"}), HasSubstr("/dev/null"));
  EXPECT_THAT(error_of({"--mla", "--kv-heads", "2"}), HasSubstr("exclude each other"));
  EXPECT_THAT(error_of({"--mla", "--rope-pairs", "low"}), HasSubstr("none of high"));
  EXPECT_THAT(error_of({"--mla", "--latent-norm", "none"}), HasSubstr("none of rms, linear"));
  EXPECT_THAT(error_of({"--mla", "--kv-latent", "3"}), HasSubstr("kv-latent is 3"));
  EXPECT_THAT(error_of({"--kv-heads", "2", "--kv-latent", "8"}), HasSubstr("--mla"));
  EXPECT_THAT(error_of({"--mla", "--calibrate-tokens", "8"}), HasSubstr("--calibrate"));
}

}  // namespace
}  // namespace larder
