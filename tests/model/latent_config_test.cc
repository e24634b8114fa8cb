// Configurations of deepseek2 and larder_cla: what the two file kinds say, and what is refused.
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "model/arch/arch.h"
#include "model/io/gguf.h"
#include "model/latent_forms.h"
#include "scratch_dir.h"

namespace larder {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

json with(json config, const json& more) {
  config.update(more);
  return config;
}

/// DeepSeek-V2-Lite's config.json, as far as it matters.
json lite() {
  return {{"architectures", {"DeepseekV2ForCausalLM"}},
          {"hidden_size", 2048},
          {"num_hidden_layers", 27},
          {"intermediate_size", 10944},
          {"num_attention_heads", 16},
          {"num_key_value_heads", 16},
          {"vocab_size", 102400},
          {"max_position_embeddings", 163840},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000},
          {"kv_lora_rank", 512},
          {"q_lora_rank", nullptr},
          {"qk_nope_head_dim", 128},
          {"qk_rope_head_dim", 64},
          {"v_head_dim", 128},
          {"n_routed_experts", 64},
          {"num_experts_per_tok", 6},
          {"n_shared_experts", 2},
          {"moe_intermediate_size", 1408},
          {"moe_layer_freq", 1},
          {"first_k_dense_replace", 1},
          {"topk_method", "greedy"},
          {"n_group", 1},
          {"topk_group", 1},
          {"scoring_func", "softmax"},
          {"norm_topk_prob", false},
          {"routed_scaling_factor", 1.0},
          {"rope_scaling",
           {{"type", "yarn"},
            {"factor", 40},
            {"beta_fast", 32},
            {"beta_slow", 1},
            {"mscale", 0.707},
            {"mscale_all_dim", 0.707},
            {"original_max_position_embeddings", 4096}}}};
}

json cla() {
  return {{"architectures", {"LarderClaForCausalLM"}},
          {"hidden_size", 64},
          {"num_hidden_layers", 4},
          {"intermediate_size", 96},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"vocab_size", 100},
          {"max_position_embeddings", 256},
          {"qk_norm", true},
          {"kv_owner", {0, 0, 2, 2}}};
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

/// The metadata that `config_to_gguf` writes.
GgufMetadata metadata_of(const ModelConfig& config) {
  ScratchDir dir;
  auto writer = GgufWriter::create(dir.path("m.gguf"));
  EXPECT_TRUE(writer);
  config_to_gguf(config, *writer);
  EXPECT_TRUE(writer->begin_data());
  EXPECT_TRUE(writer->finish());
  const auto file = GgufFile::open(dir.path("m.gguf"));
  EXPECT_TRUE(file) << (file ? "" : file.error().message);
  return file ? (*file)->metadata() : GgufMetadata("none");
}

TEST(LatentConfig, ReadsDeepSeekV2Lite) {
  const ModelConfig c = read(lite());
  EXPECT_EQ(c.arch, "deepseek2");
  EXPECT_EQ(c.head_dim, 192U);
  EXPECT_EQ(c.n_kv_heads, 1U);
  EXPECT_EQ(c.value_dim(), 128U);
  EXPECT_EQ(c.latent.row_dim(), 576U);
  EXPECT_EQ(c.rope.n_rot, 64U);
  EXPECT_EQ(c.rope.style, RopeStyle::adjacent);
  EXPECT_FALSE(c.has_experts(0));
  EXPECT_TRUE(c.has_experts(1));
  EXPECT_EQ(c.experts.n_used, 6U);
  EXPECT_EQ(c.experts.n_groups, 1U);
  EXPECT_EQ(c.max_ff(), 10944U);
  // mscale 0.707 in both places: nothing left for sines and cosines, 1.59 for the scores.
  EXPECT_NEAR(c.rope.attention_factor, 1.0, 1e-6);
  const double mscale = 1 + 0.1 * 0.707 * std::log(40.0);
  EXPECT_NEAR(c.attention_scale, mscale * mscale / std::sqrt(192.0), 1e-7);
}

TEST(LatentConfig, GroupLimitedRoutingNeedsItsMethod) {
  const json groups = {{"n_group", 8}, {"topk_group", 3}};
  EXPECT_EQ(read(with(lite(), groups)).experts.n_groups, 1U);  // greedy
  const ModelConfig c = read(with(with(lite(), groups), {{"topk_method", "group_limited_greedy"},
                                                         {"routed_scaling_factor", 16.0},
                                                         {"q_lora_rank", 1536}}));
  EXPECT_EQ(c.experts.n_groups, 8U);
  EXPECT_EQ(c.experts.n_groups_used, 3U);
  EXPECT_EQ(c.experts.weights_scale, 16.0F);
  EXPECT_EQ(c.latent.q_rank, 1536U);
}

TEST(LatentConfig, AllLayersDenseMeansNoExperts) {
  const ModelConfig c = read(with(lite(), {{"first_k_dense_replace", 27}}));
  EXPECT_EQ(c.experts.n_experts, 0U);
  EXPECT_FALSE(c.has_experts(26));
}

TEST(LatentConfig, GgufHoldsTheSame) {
  for (const json& more :
       {json::object(), json{{"first_k_dense_replace", 27}, {"rope_scaling", nullptr}},
        json{{"n_group", 8},
             {"topk_group", 3},
             {"topk_method", "group_limited_greedy"},
             {"norm_topk_prob", true},
             {"q_lora_rank", 96}}}) {
    const ModelConfig asked = read(with(lite(), more));
    const GgufMetadata metadata = metadata_of(asked);
    const auto got = config_from_gguf(metadata);
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_EQ(got->head_dim, asked.head_dim);
    EXPECT_EQ(got->n_kv_heads, 1U);
    EXPECT_EQ(got->latent.kv_rank, asked.latent.kv_rank);
    EXPECT_EQ(got->latent.q_rank, asked.latent.q_rank);
    EXPECT_EQ(got->latent.nope_dim, asked.latent.nope_dim);
    EXPECT_EQ(got->latent.v_dim, asked.latent.v_dim);
    EXPECT_EQ(got->rope.n_rot, asked.rope.n_rot);
    EXPECT_EQ(got->rope.style, RopeStyle::adjacent);
    EXPECT_EQ(got->rope.scaling, asked.rope.scaling);
    EXPECT_NEAR(got->attention_scale, asked.attention_scale, 1e-6);
    EXPECT_EQ(got->experts.n_experts, asked.experts.n_experts);
    EXPECT_EQ(got->experts.n_groups, asked.experts.n_groups);
    EXPECT_EQ(got->experts.n_groups_used, asked.experts.n_groups_used);
    EXPECT_EQ(got->experts.normalise, asked.experts.normalise);
    EXPECT_EQ(got->experts.n_ff, asked.experts.n_ff);
    EXPECT_FALSE(metadata.has("deepseek2.rope.scaling.attn_factor"));  // llama.cpp's would grow
  }
}

TEST(LatentConfig, ReadsTheWidthsOfOlderGgufFiles) {
  GgufMetadata metadata = metadata_of(read(lite()));
  GgufMetadata older("older.gguf");
  for (const auto& [key, value] : metadata.entries()) {
    if (!key.ends_with("_mla")) older.set(key, value);
  }
  older.set("deepseek2.attention.head_count_kv", std::uint64_t{16});
  older.set("deepseek2.attention.key_length", std::uint64_t{192});
  older.set("deepseek2.attention.value_length", std::uint64_t{128});
  const auto got = config_from_gguf(older);
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->head_dim, 192U);
  EXPECT_EQ(got->n_kv_heads, 1U);
  EXPECT_EQ(got->latent.v_dim, 128U);
}

TEST(LatentConfig, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(error_of(with(lite(), {{"scoring_func", "sigmoid"}})), HasSubstr("scoring_func"));
  EXPECT_THAT(error_of(with(lite(), {{"topk_method", "noaux_tc"}})), HasSubstr("noaux_tc"));
  EXPECT_THAT(error_of(with(lite(), {{"moe_layer_freq", 2}})), HasSubstr("moe_layer_freq"));
  EXPECT_THAT(error_of(with(lite(), {{"num_experts_per_tok", 65}})), HasSubstr("65"));
  EXPECT_THAT(error_of(with(lite(), {{"kv_lora_rank", 0}})), HasSubstr("kv_lora_rank"));
  EXPECT_THAT(error_of(with(lite(), {{"kv_lora_rank", 4000000000U}})), HasSubstr("4000000000"));
  EXPECT_THAT(error_of(with(lite(), {{"qk_rope_head_dim", 63}})), HasSubstr("191"));
  EXPECT_THAT(
      error_of(with(lite(),
                    {{"n_group", 7}, {"topk_group", 3}, {"topk_method", "group_limited_greedy"}})),
      HasSubstr("7 groups"));
  EXPECT_THAT(error_of(with(lite(), {{"n_shared_experts", 1000}})), HasSubstr("1000 x 1408"));
  GgufMetadata sigmoid = metadata_of(read(lite()));
  sigmoid.set("deepseek2.expert_gating_func", std::uint64_t{2});
  const auto refused = config_from_gguf(sigmoid);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("expert_gating_func"));
}

TEST(LatentConfig, PlainFormPaysForWholePanelsOfWideLatents) {
  ModelConfig c = read(lite());
  EXPECT_EQ(plain_prefix(c, 255), 0U);
  EXPECT_EQ(plain_prefix(c, 256), 256U);
  EXPECT_EQ(plain_prefix(c, 1000), 768U);
  c.latent.v_dim = 1024;  // the latent is narrower than what it stands for: never
  EXPECT_EQ(plain_prefix(c, 1000), 0U);
  EXPECT_EQ(plain_prefix(ModelConfig{}, 1000), 0U);
}

TEST(ClaConfig, OwnersAreReadAndKept) {
  const ModelConfig c = read(cla());
  EXPECT_THAT(c.kv_owner, ElementsAre(0, 0, 2, 2));
  EXPECT_TRUE(c.qk_norm);
  EXPECT_EQ(c.n_owners(), 2U);
  EXPECT_TRUE(c.owns_kv(2));
  EXPECT_FALSE(c.owns_kv(3));
  const auto back = config_from_gguf(metadata_of(c));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->arch, "larder_cla");
  EXPECT_EQ(back->kv_owner, c.kv_owner);
  EXPECT_TRUE(back->qk_norm);
}

TEST(ClaConfig, AnOwnerKeepsTheWidestWindowOfItsReaders) {
  const ModelConfig c = read(with(cla(), {{"use_sliding_window", true},
                                          {"sliding_window", 32},
                                          {"layer_types",
                                           {"sliding_attention", "full_attention",
                                            "sliding_attention", "sliding_attention"}}}));
  EXPECT_EQ(c.layer_window(0), 32U);
  EXPECT_EQ(c.cache_window(0), 0U);
  EXPECT_EQ(c.cache_window(2), 32U);
}

TEST(ClaConfig, RefusesOwnersThatDoNotOwn) {
  EXPECT_THAT(error_of(with(cla(), {{"kv_owner", {0, 0, 1, 2}}})), HasSubstr("kv_owner"));
  EXPECT_THAT(error_of(with(cla(), {{"kv_owner", {1, 1, 2, 2}}})), HasSubstr("layer 0"));
  EXPECT_THAT(error_of(with(cla(), {{"kv_owner", {0, 0, 2}}})), HasSubstr("3 entries"));
  EXPECT_THAT(error_of(with(cla(), {{"kv_owner", {0, 0, 2, 9}}})), HasSubstr("layer 9"));
  EXPECT_THAT(error_of(with(cla(), {{"kv_owner", {0, 0.5, 2, 2}}})), HasSubstr("whole numbers"));
  EXPECT_THAT(error_of(with(cla(), {{"kv_owner", nullptr}})), HasSubstr("missing"));
}

}  // namespace
}  // namespace larder
