// Heads turned into latent attention where nothing may be lost, through the engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/surgery/latent_source.h"
#include "surgery_fixture.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

using testing::HasSubstr;

Source latent_of(Source source, const ToLatent& to) {
  auto out = latent_model(std::move(source), to, {});
  EXPECT_TRUE(out) << out.error().message;
  if (!out) return nullptr;
  EXPECT_TRUE(Weights::load(**out));
  return std::move(*out);
}

class LatentOfAllComponents : public testing::TestWithParam<std::tuple<const char*, RopeChoice>> {};

TEST_P(LatentOfAllComponents, IsExact) {
  const auto& [name, choice] = GetParam();
  const auto expected = logits_of(fixture(name));
  const ModelConfig config = fixture(name)->config();
  const std::uint32_t width = config.n_kv_heads * config.head_dim;
  auto latent = latent_of(fixture(name), {width, width, choice, LatentNorm::linear});
  ASSERT_NE(latent, nullptr);
  EXPECT_EQ(latent->config().arch, "deepseek2");
  EXPECT_EQ(latent->config().latent.row_dim(), 2 * width);
  expect_equal(expected, logits_of(std::move(latent)));
}

INSTANTIATE_TEST_SUITE_P(Families, LatentOfAllComponents,
                         testing::Combine(testing::Values("llama_mha", "llama_gqa_llama3",
                                                          "llama_gqa_yarn", "llama_mqa_linear"),
                                          testing::Values(RopeChoice::high, RopeChoice::uniform,
                                                          RopeChoice::norm, RopeChoice::loss)));

/// Four heads that hold one thing in four coordinate systems: one component of each pair carries
/// all of it, and the values have the rank of one head.
TEST(LatentModel, FindsWhatHeadsInDisguiseShare) {
  const auto expected = logits_of(fixture("llama_mqa_linear"));
  const std::uint32_t d = fixture("llama_mqa_linear")->config().head_dim;
  for (const RopeChoice choice :
       {RopeChoice::high, RopeChoice::uniform, RopeChoice::norm, RopeChoice::loss}) {
    auto latent =
        latent_of(as_mha(fixture("llama_mqa_linear"), true), {d, d, choice, LatentNorm::linear});
    ASSERT_NE(latent, nullptr);
    expect_equal(expected, logits_of(std::move(latent)));
  }
}

TEST(LatentModel, MoreChannelsLoseLess) {
  const auto expected = logits_of(fixture("llama_mha"));
  double last = 1e30;
  for (const std::uint32_t rank : {2U, 8U, 16U, 36U}) {
    const auto actual =
        logits_of(latent_of(fixture("llama_mha"), {rank, 8, RopeChoice::high, LatentNorm::linear}));
    double error = 0;
    for (std::size_t i = 0; i < actual.size(); ++i) error += std::pow(actual[i] - expected[i], 2);
    EXPECT_LT(error, last);
    last = error;
  }
}

/// Mean squares of latent channels by the moment that was assumed: falling, one on average, which
/// is what a norm with weights of one leaves alone.
TEST(LatentModel, RmsLatentsHaveTheSizeOfTheirNorm) {
  const Source source = fixture("llama_mha");
  const auto latent = latent_of(fixture("llama_mha"), {12, 8, RopeChoice::high, LatentNorm::rms});
  ASSERT_NE(latent, nullptr);
  for (std::uint32_t layer = 0; layer < source->config().n_layers; ++layer) {
    const std::string name = "blk." + std::to_string(layer) + ".attn_kv_a_mqa.weight";
    const TensorView view = *latent->find(name);
    ASSERT_EQ(view.dtype, DType::f32);
    const InputMoment moment = assumed_moment(*source, layer);
    std::vector<float> row(view.n_cols());
    double sum = 0, last = 1e30;
    for (std::size_t r = 0; r < 12; ++r) {
      decode_row(view.dtype, view.bytes.data() + r * row_bytes(view.dtype, row.size()), row.size(),
                 row.data());
      double energy = 0;
      for (std::size_t i = 0; i < row.size(); ++i) {
        energy += moment.diagonal[i] * static_cast<double>(row[i]) * row[i];
      }
      EXPECT_LE(energy, last * 1.0001) << name << " row " << r;
      sum += last = energy;
    }
    EXPECT_NEAR(sum, 12, 1e-3) << name;
  }
}

TEST(LatentModel, DefaultsHalveTheCache) {
  const auto latent = latent_of(fixture("llama_mha"), {});
  EXPECT_EQ(latent->config().latent.row_dim(), 3U * 8);
  EXPECT_EQ(latent->config().latent.rope_dim, 8U);
  EXPECT_FALSE(latent->keeps_type("blk.0.attn_kv_a_mqa.weight"));
  EXPECT_EQ(latent->find("blk.0.attn_k.weight"), std::nullopt);
  EXPECT_FALSE(logits_of(latent_of(fixture("llama_mha"), {})).empty());
}

TEST(LatentModel, RefusesWhatItsFormCannotExpress) {
  const std::pair<const char*, const char*> cases[] = {
      {"qwen2", "sliding windows"},
      {"qwen3", "norms on q and k heads"},
      {"gemma2", "norms behind"},
      {"gemma3", "norms on q and k heads"},
      {"mistral", "sliding windows"},
      {"phi3_short", "which deepseek2 cannot express"},
      {"phi3_long", "which deepseek2 cannot express"}};
  for (const auto& [name, reason] : cases) {
    const auto latent = latent_model(fixture(name), {}, {});
    ASSERT_FALSE(latent) << name;
    EXPECT_EQ(latent.error().code, Errc::unsupported);
    EXPECT_THAT(latent.error().message, HasSubstr(reason));
  }
  const auto error_of = [](const ToLatent& to) {
    const auto latent = latent_model(fixture("llama_mha"), to, {});
    return latent ? std::string() : latent.error().message;
  };
  EXPECT_THAT(error_of({0, 5}), HasSubstr("rope-dim is 5, must be even and at most 24"));
  EXPECT_THAT(error_of({0, 26}), HasSubstr("rope-dim is 26"));
  EXPECT_THAT(error_of({7, 8}), HasSubstr("kv-latent is 7, must be even and at most 48"));
  EXPECT_THAT(error_of({50, 8}), HasSubstr("kv-latent is 50"));
}

TEST(PoolModel, RefusesALatent) {
  const auto pooled = pool_model(latent_of(fixture("llama_mha"), {}), {1, false}, {});
  ASSERT_FALSE(pooled);
  EXPECT_THAT(pooled.error().message, HasSubstr("latent attention: there are no KV heads"));
}

}  // namespace
}  // namespace larder
