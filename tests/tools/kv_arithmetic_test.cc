#include "kv_arithmetic.h"

#include <gtest/gtest.h>

#include <limits>

namespace larder {
namespace {

ModelConfig shape(std::uint32_t n_layers, std::uint32_t n_heads, std::uint32_t n_kv_heads,
                  std::uint32_t head_dim) {
  ModelConfig config;
  config.n_layers = n_layers;
  config.n_heads = n_heads;
  config.n_kv_heads = n_kv_heads;
  config.head_dim = head_dim;
  return config;
}

KvFacts facts(const ModelConfig& config, KvFormat format = KvFormat::f16) {
  return {&config, &kv_codec(format), &kv_codec(format), config.n_kv_heads};
}

TEST(KvArithmetic, GivesThePublishedSizesPerToken) {
  EXPECT_EQ(token_bytes(facts(shape(32, 32, 32, 128))), 524288);  // LLaMA2-7B
  EXPECT_EQ(token_bytes(facts(shape(32, 32, 8, 128))), 131072);   // LLaMA3-8B, Mistral-7B
  const ModelConfig llama2_70b = shape(80, 64, 8, 128);
  EXPECT_EQ(token_bytes(facts(llama2_70b)), 327680);
  KvFacts as_mha = facts(llama2_70b);
  as_mha.n_kv_heads = llama2_70b.n_heads;
  EXPECT_EQ(token_bytes(as_mha), 2.5 * (1 << 20));
  EXPECT_EQ(token_bytes(facts(shape(28, 28, 4, 128))), 56 * 1024);  // Qwen2.5-7B
}

TEST(KvArithmetic, LatentRowsStandForKeysAndValues) {
  ModelConfig lite = shape(27, 16, 1, 192);  // DeepSeek-V2-Lite
  lite.latent = {512, 0, 128, 64, 128};
  const KvFacts kv = facts(lite);
  EXPECT_EQ(token_bytes(kv), 27 * 576 * 2);
  EXPECT_EQ(bits_per_element(kv), 16);
  KvFacts as_mha = kv;
  as_mha.n_kv_heads = 16;
  as_mha.as_stored = false;
  EXPECT_EQ(token_bytes(as_mha), 27 * 16 * (192 + 128) * 2);
  KvFacts sealed = kv;
  sealed.k = &kv_codec(KvFormat::bf16);  // of the rotated key
  sealed.v = &kv_codec(KvFormat::rot4);
  EXPECT_EQ(token_bytes(sealed), 27 * (64 * 2 + 512 / 2 + 2));
  ModelConfig v2 = shape(60, 128, 1, 192);
  v2.latent = {512, 1536, 128, 64, 128};
  EXPECT_EQ(token_bytes(facts(v2)), 67.5 * 1024);
}

TEST(KvArithmetic, OnlyOwnersStoreRows) {
  ModelConfig config = shape(4, 8, 2, 64);
  config.kv_owner = {0, 0, 2, 2};
  config.window = 128;
  config.windowed = {1, 0, 1, 1};  // layer 0 keeps all rows for layer 1
  const KvFacts kv = facts(config);
  const double layer = token_bytes(kv) / 2;
  EXPECT_EQ(layer, 2 * 2 * 64 * 2);
  EXPECT_EQ(n_storing_layers(kv), 2U);
  EXPECT_EQ(n_growing_layers(kv), 1U);
  EXPECT_EQ(cache_bytes(kv, 1000), (1000 + 128) * layer);
  KvFacts alone = kv;
  alone.as_stored = false;
  EXPECT_EQ(token_bytes(alone), 4 * layer);
}

TEST(KvArithmetic, CountsBitsFromTheCodec) {
  const ModelConfig config = shape(2, 4, 2, 64);
  EXPECT_EQ(bits_per_element(facts(config, KvFormat::f32)), 32);
  EXPECT_EQ(bits_per_element(facts(config, KvFormat::bf16)), 16);
}

TEST(KvArithmetic, SlidingWindowLayersStopGrowing) {
  ModelConfig config = shape(4, 8, 2, 64);
  config.window = 128;
  config.windowed = {1, 0, 1, 1};
  const KvFacts kv = facts(config);
  const double layer = token_bytes(kv) / 4;
  EXPECT_EQ(n_windowed_layers(config), 3U);
  EXPECT_EQ(token_bytes_beyond_window(kv), layer);
  EXPECT_EQ(cache_bytes(kv, 100), 400 * layer);
  EXPECT_EQ(cache_bytes(kv, 1000), (1000 + 3 * 128) * layer);
}

TEST(KvArithmetic, LongestContextIsTheInverse) {
  ModelConfig config = shape(4, 8, 2, 64);
  for (const std::uint32_t window : {0U, 96U, 128U}) {
    config.window = window;
    config.windowed = {1, 0, 1, 1};
    const KvFacts kv = facts(config);
    for (std::uint64_t n_bytes = 0; n_bytes < 4'000'000; n_bytes += 70'001) {
      const std::uint64_t n = longest_context(kv, n_bytes);
      EXPECT_LE(cache_bytes(kv, n), static_cast<double>(n_bytes));
      EXPECT_GT(cache_bytes(kv, n + 32), static_cast<double>(n_bytes));
      EXPECT_EQ(n % 32, 0U);
    }
  }
}

TEST(KvArithmetic, AnyContextFitsWhenAllLayersHaveAWindow) {
  ModelConfig config = shape(4, 8, 2, 64);
  config.window = 128;
  EXPECT_EQ(longest_context(facts(config), 1 << 20), std::numeric_limits<std::uint64_t>::max());
}

}  // namespace
}  // namespace larder
