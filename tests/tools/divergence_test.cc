#include "divergence.h"

#include <gtest/gtest.h>

#include <cmath>

namespace larder {
namespace {

TEST(PositionDivergence, FollowsTheFormula) {
  // p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2), with offsets that a softmax forgets.
  const std::vector<float> p = {std::log(0.5F) + 3, std::log(0.25F) + 3, std::log(0.25F) + 3};
  const std::vector<float> q = {std::log(0.25F) - 7, std::log(0.25F) - 7, std::log(0.5F) - 7};
  const PositionDivergence d = position_divergence(p, q, 0);
  EXPECT_NEAR(d.kl, 0.25 * std::log(2.0), 1e-6);
  EXPECT_NEAR(d.reference_nats, std::log(2.0), 1e-6);
  EXPECT_NEAR(d.model_nats, std::log(4.0), 1e-6);
  EXPECT_FALSE(d.same_top);
  const PositionDivergence same = position_divergence(p, p, 2);
  EXPECT_EQ(same.kl, 0);
  EXPECT_TRUE(same.same_top);
}

TEST(Summarise, QuantilesAreValuesThatOccurred) {
  std::vector<PositionDivergence> positions(200);
  for (std::size_t i = 0; i < 200; ++i) {
    positions[i].kl = static_cast<double>((i * 77) % 200 + 1);  // 1..200, shuffled
    positions[i].model_nats = std::log(8.0);
    positions[i].reference_nats = std::log(2.0);
    positions[i].same_top = i % 4 != 0;
  }
  const DivergenceResult r = summarise(positions);
  EXPECT_DOUBLE_EQ(r.mean, 100.5);
  EXPECT_EQ(r.median, 100);
  EXPECT_EQ(r.p99, 198);
  EXPECT_EQ(r.max, 200);
  EXPECT_DOUBLE_EQ(r.top1_agreement, 0.75);
  EXPECT_NEAR(r.perplexity, 8, 1e-12);
  EXPECT_NEAR(r.reference_perplexity, 2, 1e-12);
  EXPECT_NEAR(r.rms_probability_change, 0.375, 1e-12);
}

TEST(LogitBoundedBatch, BoundsTheMemory) {
  EXPECT_EQ(logit_bounded_batch(512, 2048), 512U);
  EXPECT_EQ(logit_bounded_batch(512, 1U << 17), 128U);
  EXPECT_EQ(logit_bounded_batch(512, 1U << 22), 8U);
  EXPECT_EQ(logit_bounded_batch(4, 1U << 22), 4U);
}

/// The reference is the same model with another cache format, in other steps: perplexities are
/// those of measure_perplexity, and the divergence is as small as the formats are close.
TEST(MeasureDivergence, AgreesWithPerplexityAndTheFormats) {
  EngineOptions options;
  options.model_path = std::string(LARDER_MODELS_DIR) + "/stories260K.gguf";
  options.n_context = 64;
  options.n_threads = 2;
  options.kv.type_k = options.kv.type_v = "f32";
  const auto open = [&] {
    auto engine = Engine::open(options);
    EXPECT_TRUE(engine) << engine.error().message;
    return std::move(*engine);
  };
  const auto reference = open();
  options.n_batch = 7;
  const auto same = open();
  options.kv.type_k = options.kv.type_v = "bf16";
  const auto coarse = open();
  const std::string text =
      "Once upon a time, there was a little girl named Lily. She loved to play outside in the sun "
      "with her friends. One day, she found a big red ball under the old tree. She was so happy.";
  const PerplexityOptions measure{64, 24, 0, 1};
  const auto silent = [](double, double) {};
  const auto exact = measure_divergence(*same, *reference, text, measure, silent);
  ASSERT_TRUE(exact) << exact.error().message;
  EXPECT_EQ(exact->max, 0);
  EXPECT_EQ(exact->top1_agreement, 1);
  const auto rounded = measure_divergence(*coarse, *reference, text, measure, silent);
  ASSERT_TRUE(rounded) << rounded.error().message;
  EXPECT_GT(rounded->mean, 0);
  EXPECT_LT(rounded->mean, 1e-3);
  EXPECT_LE(rounded->median, rounded->p99);
  const auto alone = measure_perplexity(*coarse, text, measure, silent);
  ASSERT_TRUE(alone);
  EXPECT_EQ(rounded->n_scored_tokens, alone->n_scored_tokens);
  EXPECT_NEAR(rounded->perplexity, alone->perplexity(), 1e-5 * alone->perplexity());
}

}  // namespace
}  // namespace larder
