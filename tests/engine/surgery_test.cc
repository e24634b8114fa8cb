// Changes of the attention that must not change what a model computes, through the engine.
#include <gtest/gtest.h>

#include <cmath>

#include "surgery_fixture.h"

namespace larder {
namespace {

class Pooling : public testing::TestWithParam<const char*> {};

TEST_P(Pooling, OfEqualHeadsIsExact) {
  const auto expected = logits_of(fixture(GetParam()));
  const std::uint32_t n_kv = fixture(GetParam())->config().n_kv_heads;
  auto pooled = pool_model(as_mha(fixture(GetParam()), false), {n_kv, false}, {});
  ASSERT_TRUE(pooled) << pooled.error().message;
  expect_equal(expected, logits_of(std::move(*pooled)));
}

TEST_P(Pooling, AlignedFindsHeadsInDisguise) {
  const auto expected = logits_of(fixture(GetParam()));
  const std::uint32_t n_kv = fixture(GetParam())->config().n_kv_heads;
  expect_equal(expected, logits_of(as_mha(fixture(GetParam()), true)));
  auto pooled = pool_model(as_mha(fixture(GetParam()), true), {n_kv, true}, {});
  ASSERT_TRUE(pooled) << pooled.error().message;
  EXPECT_EQ((*pooled)->config().n_kv_heads, n_kv);
  expect_equal(expected, logits_of(std::move(*pooled)));
}

INSTANTIATE_TEST_SUITE_P(Families, Pooling,
                         testing::Values("gemma2", "gemma3", "llama_gqa_llama3", "llama_gqa_yarn",
                                         "llama_mqa_linear", "mistral", "phi3_long", "phi3_short",
                                         "qwen2", "qwen3"),
                         [](const auto& family) { return std::string(family.param); });

TEST(PoolModel, RefusesNumbersThatDoNotDivide) {
  for (const std::uint32_t n : {0U, 2U, 3U, 4U}) {
    const auto pooled = pool_model(fixture("llama_mha"), {n, false}, {});
    ASSERT_FALSE(pooled) << n;
    EXPECT_EQ(pooled.error().code, Errc::invalid_argument);
    EXPECT_NE(pooled.error().message.find("kv-heads is " + std::to_string(n)), std::string::npos);
  }
}

TEST(PoolModel, AlignmentLosesLess) {
  const auto expected = logits_of(fixture("llama_mha"));
  const auto error_of = [&](bool align) {
    auto pooled = pool_model(fixture("llama_mha"), {1, align}, {});
    const auto actual = logits_of(std::move(*pooled));
    double sum = 0;
    for (std::size_t i = 0; i < actual.size(); ++i) {
      sum += std::pow(actual[i] - expected[i], 2);
    }
    return sum;
  };
  EXPECT_LT(error_of(true), 0.8 * error_of(false));
}

}  // namespace
}  // namespace larder
