#include "model/config.h"

#include <gmock/gmock.h>

#include <functional>
#include <limits>

namespace larder {
namespace {

using testing::HasSubstr;

ModelConfig good() {
  ModelConfig config;
  config.arch = "llama";
  config.n_layers = 2;
  config.n_embd = 64;
  config.n_ff = 96;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 16;
  config.n_vocab = 100;
  config.n_context_train = 128;
  config.rope.n_rot = 16;
  return config;
}

TEST(Config, AcceptsAModel) { EXPECT_TRUE(validate(good(), "f")); }

TEST(Config, NamesFileFieldAndValue) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::pair<std::function<void(ModelConfig&)>, std::string>> cases = {
      {[](auto& c) { c.n_layers = 0; }, "f: number of layers is 0, expected 1 to 1024"},
      {[](auto& c) { c.n_layers = 4000000000; }, "number of layers is 4000000000"},
      {[](auto& c) { c.n_embd = 1U << 30; }, "embedding length is 1073741824"},
      {[](auto& c) { c.n_ff = 0; }, "feed-forward length is 0"},
      {[](auto& c) { c.n_heads = 0; }, "number of heads is 0"},
      {[](auto& c) { c.n_kv_heads = 0; }, "number of KV heads is 0"},
      {[](auto& c) { c.n_kv_heads = 3; }, "number of heads 4 is not a multiple"},
      {[](auto& c) { c.head_dim = 15; }, "head dimension is 15, expected an even number"},
      {[](auto& c) { c.n_vocab = 1U << 31; }, "vocabulary size is 2147483648"},
      {[](auto& c) { c.n_context_train = 0; }, "context length is 0"},
      {[&](auto& c) { c.norm_eps = nan; }, "norm epsilon is nan"},
      {[&](auto& c) { c.attention_scale = nan; }, "attention scale is nan"},
      {[](auto& c) { c.attention_soft_cap = -1; }, "attention soft cap is -1"},
      {[](auto& c) { c.logit_soft_cap = -2; }, "logit soft cap is -2"},
      {[](auto& c) { c.embedding_scale = 0; }, "embedding scale is 0"},
      {[](auto& c) { c.window = 1U << 31; }, "sliding window is 2147483648"},
      {[](auto& c) { c.windowed = {1}; }, "pattern has 1 layers, expected 2"},
      {[](auto& c) { c.rope.n_rot = 18; }, "rope dimension count is 18"},
      {[](auto& c) { c.rope.n_rot = 7; }, "rope dimension count is 7"},
      {[](auto& c) { c.rope.base = 1; }, "rope base is 1"},
      {[&](auto& c) { c.rope.local_base = nan; }, "local rope base is nan"},
      {[](auto& c) {
         c.rope.frequency_divisors = {1, 2};
       },
       "rope_freqs.weight has 2 entries"},
      {[](auto& c) { c.rope.frequency_divisors.assign(8, 0.0F); }, "rope_freqs.weight is 0"},
      {[](auto& c) {
         c.rope.scaling = RopeScaling::linear;
         c.rope.factor = 0;
       },
       "rope scaling factor is 0"},
      {[](auto& c) { c.rope.scaling = RopeScaling::yarn; }, "rope original context is 0"},
      {[](auto& c) {
         c.rope.scaling = RopeScaling::llama3;
         c.rope.original_context = 8;
         c.rope.low_freq_factor = 4;
       },
       "high_freq_factor 4 is not above"},
      {[](auto& c) {
         c.rope.scaling = RopeScaling::longrope;
         c.rope.original_context = 8;
       },
       "rope long factors has 0 entries, expected 8"},
  };
  for (const auto& [change, message] : cases) {
    ModelConfig config = good();
    change(config);
    const auto result = validate(config, "f");
    ASSERT_FALSE(result) << message;
    EXPECT_THAT(result.error().message, HasSubstr(message));
  }
}

TEST(Config, LayerWindow) {
  ModelConfig config = good();
  EXPECT_EQ(config.layer_window(0), 0U);
  config.window = 7;
  EXPECT_EQ(config.layer_window(1), 7U);
  config.windowed = {0, 1};
  EXPECT_EQ(config.layer_window(0), 0U);
  EXPECT_EQ(config.layer_window(1), 7U);
}

}  // namespace
}  // namespace larder
