#include "model/arch/arch.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "model/io/gguf.h"
#include "scratch_dir.h"

namespace larder {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

json base(std::string_view architecture) {
  return {{"architectures", {architecture}}, {"hidden_size", 64},        {"num_hidden_layers", 4},
          {"intermediate_size", 96},         {"num_attention_heads", 4}, {"vocab_size", 100},
          {"num_key_value_heads", 2},        {"rms_norm_eps", 1e-6},     {"rope_theta", 20000.0},
          {"max_position_embeddings", 256},  {"sliding_window", nullptr}};
}

json with(json config, const json& more) {
  config.update(more);
  return config;
}

ModelConfig read(const json& config) {
  auto result = config_from_hf(config, "config.json");
  EXPECT_TRUE(result) << (result ? "" : result.error().message);
  return result ? *result : ModelConfig{};
}

std::string error_of(const json& config) {
  const auto result = config_from_hf(config, "config.json");
  return result ? "no error" : result.error().message;
}

/// Writes the config as a GGUF file with its rope tensors and reads it back.
ModelConfig through_gguf(const ModelConfig& config) {
  ScratchDir dir;
  auto writer = GgufWriter::create(dir.path("m.gguf"));
  EXPECT_TRUE(writer);
  config_to_gguf(config, *writer);
  const auto ropes = rope_tensors(config.rope);
  for (const auto& rope : ropes) {
    const std::uint64_t n = rope.values.size();
    writer->announce(rope.name, DType::f32, {&n, 1});
  }
  EXPECT_TRUE(writer->begin_data());
  for (const auto& rope : ropes) {
    EXPECT_TRUE(writer->write_tensor(std::as_bytes(std::span(rope.values))));
  }
  EXPECT_TRUE(writer->finish());
  const auto file = GgufFile::open(dir.path("m.gguf"));
  EXPECT_TRUE(file) << (file ? "" : file.error().message);
  auto back = config_from_gguf(**file);
  EXPECT_TRUE(back) << (back ? "" : back.error().message);
  return back ? *back : ModelConfig{};
}

void expect_same(const ModelConfig& a, const ModelConfig& b) {
  EXPECT_EQ(a.arch, b.arch);
  EXPECT_EQ(a.n_layers, b.n_layers);
  EXPECT_EQ(a.n_embd, b.n_embd);
  EXPECT_EQ(a.n_ff, b.n_ff);
  EXPECT_EQ(a.n_heads, b.n_heads);
  EXPECT_EQ(a.n_kv_heads, b.n_kv_heads);
  EXPECT_EQ(a.head_dim, b.head_dim);
  EXPECT_EQ(a.n_vocab, b.n_vocab);
  EXPECT_EQ(a.n_context_train, b.n_context_train);
  EXPECT_EQ(a.norm_eps, b.norm_eps);
  EXPECT_EQ(a.activation, b.activation);
  EXPECT_EQ(a.attention_scale, b.attention_scale);
  EXPECT_EQ(a.attention_soft_cap, b.attention_soft_cap);
  EXPECT_EQ(a.logit_soft_cap, b.logit_soft_cap);
  EXPECT_EQ(a.embedding_scale, b.embedding_scale);
  EXPECT_EQ(a.window, b.window);
  EXPECT_EQ(a.windowed, b.windowed);
  EXPECT_EQ(a.qk_norm, b.qk_norm);
  EXPECT_EQ(a.post_norms, b.post_norms);
  EXPECT_EQ(a.fused_qkv, b.fused_qkv);
  EXPECT_EQ(a.fused_gate_up, b.fused_gate_up);
  EXPECT_EQ(a.rope.n_rot, b.rope.n_rot);
  EXPECT_EQ(a.rope.base, b.rope.base);
  EXPECT_EQ(a.rope.local_base, b.rope.local_base);
}

TEST(Arch, Llama) {
  const auto config = read(base("LlamaForCausalLM"));
  EXPECT_EQ(config.arch, "llama");
  EXPECT_EQ(config.head_dim, 16U);
  EXPECT_EQ(config.rope.n_rot, 16U);
  EXPECT_EQ(config.rope.base, 20000.0F);
  EXPECT_EQ(config.rope.style, RopeStyle::halves);
  const auto back = through_gguf(config);
  expect_same(config, back);
  EXPECT_EQ(back.rope.style, RopeStyle::adjacent);
}

TEST(Arch, LlamaIgnoresAWindowAndMistralHasOne) {
  EXPECT_EQ(read(with(base("LlamaForCausalLM"), {{"sliding_window", 8}})).window, 0U);
  const auto mistral =
      read(with(base("MistralForCausalLM"), {{"sliding_window", 8}, {"head_dim", 32}}));
  EXPECT_EQ(mistral.arch, "llama");
  EXPECT_EQ(mistral.window, 8U);
  EXPECT_TRUE(mistral.windowed.empty());
  EXPECT_EQ(mistral.head_dim, 32U);
  expect_same(mistral, through_gguf(mistral));
  EXPECT_EQ(read(base("MistralForCausalLM")).window, 0U);
}

TEST(Arch, Qwen2WindowIsOnTheUpperLayers) {
  const json more = {{"sliding_window", 8}, {"max_window_layers", 3}};
  EXPECT_EQ(read(with(base("Qwen2ForCausalLM"), more)).window, 0U);
  const auto config =
      read(with(with(base("Qwen2ForCausalLM"), more), {{"use_sliding_window", true}}));
  EXPECT_EQ(config.window, 8U);
  EXPECT_THAT(config.windowed, ElementsAre(0, 0, 0, 1));
  expect_same(config, through_gguf(config));
}

TEST(Arch, Qwen3) {
  const auto config = read(with(base("Qwen3ForCausalLM"), {{"head_dim", 32}}));
  EXPECT_TRUE(config.qk_norm);
  EXPECT_EQ(config.head_dim, 32U);
  expect_same(config, through_gguf(config));
}

TEST(Arch, Gemma2) {
  const auto config =
      read(with(base("Gemma2ForCausalLM"), {{"sliding_window", 8},
                                            {"head_dim", 32},
                                            {"query_pre_attn_scalar", 64},
                                            {"hidden_activation", "gelu_pytorch_tanh"},
                                            {"attn_logit_softcapping", nullptr}}));
  EXPECT_EQ(config.attention_scale, 0.125F);
  EXPECT_EQ(config.embedding_scale, 8.0F);
  EXPECT_EQ(config.attention_soft_cap, 0.0F) << "null switches it off";
  EXPECT_EQ(config.logit_soft_cap, 30.0F) << "not mentioned: the default";
  EXPECT_EQ(config.activation, Activation::gelu_tanh);
  EXPECT_TRUE(config.post_norms);
  EXPECT_THAT(config.windowed, ElementsAre(1, 0, 1, 0));
  expect_same(config, through_gguf(config));
}

TEST(Arch, Gemma3) {
  const json more = {{"num_hidden_layers", 7},
                     {"sliding_window", 8},
                     {"query_pre_attn_scalar", 16},
                     {"rope_local_base_freq", 5000.0},
                     {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}},
                     {"hidden_activation", "gelu_pytorch_tanh"}};
  const auto config = read(with(base("Gemma3ForCausalLM"), more));
  EXPECT_THAT(config.windowed, ElementsAre(1, 1, 1, 1, 1, 0, 1));
  EXPECT_EQ(config.rope.local_base, 5000.0F);
  EXPECT_EQ(config.rope.scaling, RopeScaling::linear);
  EXPECT_TRUE(config.qk_norm);
  EXPECT_TRUE(config.post_norms);
  const auto back = through_gguf(config);
  expect_same(config, back);
  EXPECT_EQ(back.rope.factor, 8.0F);

  const auto typed =
      read(with(base("Gemma3ForCausalLM"),
                {{"sliding_window", 8},
                 {"hidden_activation", "gelu_pytorch_tanh"},
                 {"layer_types",
                  {"full_attention", "sliding_attention", "sliding_attention", "full_attention"}},
                 {"rope_parameters",
                  {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 3e6}}},
                   {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 7000.0}}}}}}));
  EXPECT_THAT(typed.windowed, ElementsAre(0, 1, 1, 0));
  EXPECT_EQ(typed.rope.base, 3e6F);
  EXPECT_EQ(typed.rope.local_base, 7000.0F);
  expect_same(typed, through_gguf(typed));
}

TEST(Arch, Phi3LongRope) {
  const auto config =
      read(with(base("Phi3ForCausalLM"), {{"sliding_window", 8},
                                          {"partial_rotary_factor", 0.5},
                                          {"original_max_position_embeddings", 64},
                                          {"rope_scaling",
                                           {{"type", "longrope"},
                                            {"short_factor", {1.0, 1.1, 1.2, 1.3}},
                                            {"long_factor", {2.0, 3.0, 4.0, 5.0}}}}}));
  EXPECT_TRUE(config.fused_qkv);
  EXPECT_TRUE(config.fused_gate_up);
  EXPECT_EQ(config.rope.n_rot, 8U);
  EXPECT_EQ(config.rope.scaling, RopeScaling::longrope);
  EXPECT_EQ(config.rope.factor, 4.0F);
  EXPECT_EQ(config.window, 8U);
  const auto back = through_gguf(config);
  expect_same(config, back);
  EXPECT_EQ(back.rope.scaling, RopeScaling::longrope);
  EXPECT_EQ(back.rope.original_context, 64U);
  EXPECT_EQ(back.rope.long_factors, config.rope.long_factors);
  EXPECT_EQ(back.rope.short_factors, config.rope.short_factors);
  EXPECT_NEAR(back.rope.attention_factor, std::sqrt(1.0 + std::log(4.0) / std::log(64.0)), 1e-6);
}

TEST(Arch, RopeScalingThroughGguf) {
  const auto llama3 =
      read(with(base("LlamaForCausalLM"), {{"rope_scaling",
                                            {{"rope_type", "llama3"},
                                             {"factor", 8.0},
                                             {"low_freq_factor", 1.0},
                                             {"high_freq_factor", 4.0},
                                             {"original_max_position_embeddings", 64}}}}));
  EXPECT_EQ(llama3.rope.scaling, RopeScaling::llama3);
  const auto divided = through_gguf(llama3);
  EXPECT_EQ(divided.rope.scaling, RopeScaling::none);
  EXPECT_EQ(divided.rope.frequency_divisors.size(), 8U);
  EXPECT_EQ(divided.rope.frequency_divisors.back(), 8.0F);

  const auto yarn =
      read(with(base("Qwen2ForCausalLM"), {{"rope_scaling",
                                            {{"type", "yarn"},
                                             {"factor", 4.0},
                                             {"beta_fast", 16.0},
                                             {"attention_factor", 0.8},
                                             {"original_max_position_embeddings", 64}}}}));
  const auto back = through_gguf(yarn);
  EXPECT_EQ(back.rope.scaling, RopeScaling::yarn);
  EXPECT_EQ(back.rope.factor, 4.0F);
  EXPECT_EQ(back.rope.original_context, 64U);
  EXPECT_EQ(back.rope.beta_fast, 16.0F);
  EXPECT_NEAR(back.rope.attention_factor, 0.8F, 1e-6F);
}

TEST(Arch, RefusesWhatItDoesNotKnowByName) {
  EXPECT_THAT(
      error_of(base("MambaForCausalLM")),
      HasSubstr("architecture 'MambaForCausalLM' is unknown, known are LlamaForCausalLM, "));
  EXPECT_THAT(error_of(json::object()), HasSubstr("'architectures' and 'model_type' are missing"));
  const auto llama = base("LlamaForCausalLM");
  EXPECT_THAT(error_of(with(llama, {{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2}}}})),
              HasSubstr("rope type 'dynamic' is unknown, known are default"));
  EXPECT_THAT(error_of(with(llama, {{"hidden_act", "relu"}})), HasSubstr("'hidden_act' is 'relu'"));
  EXPECT_THAT(error_of(with(llama, {{"partial_rotary_factor", 0.5}})),
              HasSubstr("8 of 16 channels of a head rotate"));
  EXPECT_THAT(error_of(with(base("Qwen2ForCausalLM"),
                            {{"use_sliding_window", true}, {"layer_types", {"a", "b", "c", "d"}}})),
              HasSubstr("'layer_types' names 'a'"));
}

TEST(Arch, HfErrorsNameFileFieldAndValue) {
  const auto llama = base("LlamaForCausalLM");
  const auto changed = [&](const char* key, const json& value) {
    auto config = llama;
    config[key] = value;
    return error_of(config);
  };
  EXPECT_THAT(changed("num_attention_heads", nullptr),
              HasSubstr("config.json: field 'num_attention_heads' is missing"));
  EXPECT_THAT(changed("num_attention_heads", 0), HasSubstr("number of heads is 0"));
  EXPECT_THAT(changed("num_attention_heads", -4), HasSubstr("field 'num_attention_heads' is -4"));
  EXPECT_THAT(changed("num_hidden_layers", 4000000000),
              HasSubstr("number of layers is 4000000000"));
  EXPECT_THAT(changed("hidden_size", "wide"), HasSubstr("field 'hidden_size' is \"wide\""));
  EXPECT_THAT(changed("rope_theta", 1e300), HasSubstr("a number that fits 32 bits"));
  EXPECT_THAT(changed("rope_scaling", json::array()), HasSubstr("'rope_scaling' is an array"));
  EXPECT_THAT(changed("head_dim", 15), HasSubstr("head dimension is 15, expected an even number"));
}

TEST(Arch, GgufErrorsNameFileKeyAndValue) {
  GgufMetadata metadata("m.gguf");
  metadata.set("general.architecture", std::string("mamba"));
  const auto unknown = config_from_gguf(metadata);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(
      unknown.error().message,
      "m.gguf: architecture 'mamba' is unknown, known are llama, qwen2, qwen3, gemma2, gemma3, "
      "phi3, deepseek2, larder_cla");
  metadata.set("general.architecture", std::string("llama"));
  for (const char* key :
       {"context_length", "embedding_length", "block_count", "feed_forward_length"}) {
    metadata.set(std::string("llama.") + key, std::uint64_t{64});
  }
  const auto missing = config_from_gguf(metadata);
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("m.gguf"));
  EXPECT_THAT(missing.error().message, HasSubstr("llama.attention.head_count"));
}

TEST(Arch, TensorNames) {
  const auto name = [](std::string_view arch, std::string_view hf) {
    return find_arch(arch)->canonical_name(hf).value_or("-");
  };
  EXPECT_EQ(name("llama", "model.embed_tokens.weight"), "token_embd.weight");
  EXPECT_EQ(name("llama", "lm_head.weight"), "output.weight");
  EXPECT_EQ(name("llama", "model.norm.weight"), "output_norm.weight");
  EXPECT_EQ(name("qwen2", "model.layers.12.self_attn.q_proj.bias"), "blk.12.attn_q.bias");
  EXPECT_EQ(name("qwen3", "model.layers.0.self_attn.k_norm.weight"), "blk.0.attn_k_norm.weight");
  EXPECT_EQ(name("phi3", "model.layers.0.mlp.gate_up_proj.weight"), "blk.0.ffn_up.weight");
  EXPECT_EQ(name("phi3", "model.layers.0.self_attn.qkv_proj.weight"), "blk.0.attn_qkv.weight");
  EXPECT_EQ(name("llama", "model.layers.0.post_attention_layernorm.weight"),
            "blk.0.ffn_norm.weight");
  EXPECT_EQ(name("gemma2", "model.layers.0.post_attention_layernorm.weight"),
            "blk.0.post_attention_norm.weight");
  EXPECT_EQ(name("gemma3", "model.layers.0.pre_feedforward_layernorm.weight"),
            "blk.0.ffn_norm.weight");
  EXPECT_EQ(name("gemma3", "model.layers.0.post_feedforward_layernorm.weight"),
            "blk.0.post_ffw_norm.weight");
  for (const char* wrong :
       {"", "model", "model.layers.", "model.layers.x.mlp.up_proj.weight", "model.layers.1",
        "model.layers.1.", "model.layers.1.mlp.weight", "model.layers.12345678.mlp.up_proj.weight",
        "lm_head", "lm_head.scale"}) {
    EXPECT_EQ(name("llama", wrong), "-") << wrong;
  }
}

}  // namespace
}  // namespace larder
