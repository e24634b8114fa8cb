// DeepSeek-V2 and V2-Lite: multi-head latent attention and a mixture of experts with a softmax
// router (arXiv:2405.04434). Rope turns neighbouring channels, in both file kinds.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/fail.h"
#include "model/arch/families.h"
#include "model/arch/json_fields.h"
#include "model/arch/latent_keys.h"
#include "model/arch/tensor_names.h"
#include "model/io/gguf.h"
#include "model/io/gguf_cursor.h"

namespace larder {
namespace {

constexpr auto kHfNames = std::to_array<std::string_view>({"DeepseekV2ForCausalLM", "deepseek_v2"});
constexpr std::uint32_t kSoftmaxGate = 1;  // llama.cpp's number; 2 is the sigmoid of V3

struct Name {
  std::string_view hf, canonical;
};
constexpr auto kNames = std::to_array<Name>({
    {"self_attn.q_a_proj", "attn_q_a"},
    {"self_attn.q_a_layernorm", "attn_q_a_norm"},
    {"self_attn.q_b_proj", "attn_q_b"},
    {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
    {"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
    {"self_attn.kv_b_proj", "attn_kv_b"},
    {"mlp.gate", "ffn_gate_inp"},
    {"mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
    {"mlp.shared_experts.up_proj", "ffn_up_shexp"},
    {"mlp.shared_experts.down_proj", "ffn_down_shexp"},
});
constexpr auto kExpertNames = std::to_array<Name>({
    {"gate_proj", "ffn_gate"},
    {"up_proj", "ffn_up"},
    {"down_proj", "ffn_down"},
});

/// What both file kinds imply.
void settle(ModelConfig& config) {
  config.rope.style = RopeStyle::adjacent;
  const RopeConfig& rope = config.rope;
  if (rope.scaling != RopeScaling::yarn || rope.mscale_all_dim == 0 || rope.factor <= 1.0F) return;
  // The temperature that YaRN puts into sines and cosines covers the channels without rope too.
  const double growth = 1.0 + 0.1 * rope.mscale_all_dim * std::log(rope.factor * 1.0);
  config.attention_scale = static_cast<float>(growth * growth / std::sqrt(config.head_dim * 1.0));
}

Result<void> require_latent(const std::string& origin, const ModelConfig& config) {
  if (config.has_latent()) return {};
  return fail(Errc::unsupported, "{}: {} without kv_lora_rank, that is without latent attention",
              origin, config.arch);
}

Result<void> experts_from_gguf(const GgufMetadata& metadata, ModelConfig& config) {
  const std::string p = config.arch + ".";
  ExpertConfig& e = config.experts;
  LARDER_ASSIGN(e.n_experts, metadata.u32_or(p + "expert_count", 0));
  LARDER_ASSIGN(e.n_dense_layers, metadata.u32_or(p + "leading_dense_block_count", 0));
  if (e.n_experts == 0 || e.n_dense_layers >= config.n_layers) {
    e = {};
    return {};
  }
  LARDER_ASSIGN(const auto gate, metadata.u32_or(p + "expert_gating_func", kSoftmaxGate));
  if (gate != kSoftmaxGate && gate != 0) {
    return fail(Errc::unsupported,
                "{}: key '{}expert_gating_func' is {}, only 1 (softmax) is known",
                metadata.origin(), p, gate);
  }
  LARDER_ASSIGN(e.n_used, metadata.u32(p + "expert_used_count"));
  LARDER_ASSIGN(e.n_ff, metadata.u32(p + "expert_feed_forward_length"));
  LARDER_ASSIGN(e.n_shared, metadata.u32_or(p + "expert_shared_count", 0));
  LARDER_ASSIGN(e.n_groups, metadata.u32_or(p + "expert_group_count", 1));
  LARDER_ASSIGN(e.n_groups_used, metadata.u32_or(p + "expert_group_used_count", e.n_groups));
  LARDER_ASSIGN(e.weights_scale, metadata.f32_or(p + "expert_weights_scale", 1.0F));
  if (e.weights_scale == 0) e.weights_scale = 1.0F;  // llama.cpp's spelling of "not scaled"
  LARDER_ASSIGN(e.normalise, metadata.bool_or(p + "expert_weights_norm", false));
  return {};
}

Result<void> from_gguf(const GgufMetadata& metadata, ModelConfig& config) {
  LARDER_TRY(require_latent(metadata.origin(), config));
  LARDER_TRY(experts_from_gguf(metadata, config));
  settle(config);
  return {};
}

Result<void> groups_from_hf(const JsonFields& fields, ExpertConfig& e) {
  LARDER_ASSIGN(const auto method, fields.string_or("topk_method", "greedy"));
  if (method == "greedy") return {};
  if (method != "group_limited_greedy") {
    return fail(Errc::unsupported, "{}: field 'topk_method' is '{}', known are {}", fields.origin(),
                printable(method), "greedy, group_limited_greedy");
  }
  LARDER_ASSIGN(e.n_groups, fields.u32("n_group"));
  LARDER_ASSIGN(e.n_groups_used, fields.u32("topk_group"));
  return {};
}

Result<void> experts_from_hf(const JsonFields& fields, ModelConfig& config) {
  ExpertConfig& e = config.experts;
  LARDER_ASSIGN(e.n_experts, fields.u32_or("n_routed_experts", 0));
  LARDER_ASSIGN(e.n_dense_layers, fields.u32_or("first_k_dense_replace", 0));
  if (e.n_experts == 0 || e.n_dense_layers >= config.n_layers) {
    e = {};
    return {};
  }
  LARDER_ASSIGN(const auto every, fields.u32_or("moe_layer_freq", 1));
  LARDER_ASSIGN(const auto scoring, fields.string_or("scoring_func", "softmax"));
  if (every != 1 || scoring != "softmax") {
    return fail(Errc::unsupported,
                "{}: fields 'moe_layer_freq' and 'scoring_func' are {} and '{}', known are 1 and "
                "'softmax'",
                fields.origin(), every, printable(scoring));
  }
  LARDER_ASSIGN(e.n_used, fields.u32("num_experts_per_tok"));
  LARDER_ASSIGN(e.n_ff, fields.u32("moe_intermediate_size"));
  LARDER_ASSIGN(e.n_shared, fields.u32_or("n_shared_experts", 0));
  LARDER_ASSIGN(e.weights_scale, fields.f32_or("routed_scaling_factor", 1.0F));
  LARDER_ASSIGN(e.normalise, fields.bool_or("norm_topk_prob", false));
  return groups_from_hf(fields, e);
}

Result<void> from_hf(const JsonFields& fields, ModelConfig& config) {
  LARDER_TRY(require_latent(fields.origin(), config));
  LARDER_TRY(experts_from_hf(fields, config));
  settle(config);
  return {};
}

void to_gguf(const ModelConfig& config, GgufWriter& writer) {
  latent_to_gguf(config, writer);
  const ExpertConfig& e = config.experts;
  const auto put = [&](std::string_view key, std::uint32_t value) {
    writer.put(std::string(config.arch).append(".").append(key), GgufType::u32,
               std::uint64_t{value});
  };
  // llama.cpp wants the sizes of experts also where no layer has any.
  const bool dense = e.n_experts == 0;
  put("leading_dense_block_count", dense ? config.n_layers : e.n_dense_layers);
  put("expert_count", e.n_experts);
  put("expert_used_count", e.n_used);
  put("expert_shared_count", e.n_shared);
  put("expert_feed_forward_length", dense ? config.n_ff : e.n_ff);
  if (e.n_groups > 1) {
    put("expert_group_count", e.n_groups);
    put("expert_group_used_count", e.n_groups_used);
  }
  put("expert_gating_func", kSoftmaxGate);
  writer.put(config.arch + ".expert_weights_scale", GgufType::f32, double{e.weights_scale});
  writer.put(config.arch + ".expert_weights_norm", GgufType::boolean, e.normalise);
}

/// "mlp.experts.5.gate_proj" -> "ffn_gate.5".
std::optional<std::string> expert_name(std::string_view part) {
  constexpr std::string_view kExperts = "mlp.experts.";
  if (!part.starts_with(kExperts)) return std::nullopt;
  part.remove_prefix(kExperts.size());
  const std::size_t n_digits = std::min(part.find('.'), part.size());
  const auto index = part.substr(0, n_digits);
  if (index.empty() || index.size() > 4 || n_digits == part.size() ||
      index.find_first_not_of("0123456789") != std::string_view::npos) {
    return std::nullopt;
  }
  for (const Name& name : kExpertNames) {
    if (name.hf == part.substr(n_digits + 1)) {
      return std::string(name.canonical).append(".").append(index);
    }
  }
  return std::nullopt;
}

std::optional<std::string> tensor_name(std::string_view hf_name) {
  if (const auto place = split_layer_name(hf_name)) {
    std::optional<std::string> own = expert_name(place->part);
    for (const Name& name : kNames) {
      if (name.hf == place->part) own = name.canonical;
    }
    if (own) {
      return std::string("blk.").append(place->layer).append(".").append(*own).append(place->kind);
    }
  }
  return canonical_tensor_name(hf_name, NormNames::pre_only);
}

TensorChange tensor_change(std::string_view) { return TensorChange::none; }

}  // namespace

const Arch kDeepseek2 = {"deepseek2", kHfNames,    from_gguf,    from_hf,
                         to_gguf,     tensor_name, tensor_change};

}  // namespace larder
