#include "model/arch/tensor_names.h"

#include <algorithm>
#include <array>
#include <utility>

namespace larder {
namespace {

struct Name {
  std::string_view hf, canonical;
};

constexpr auto kOutside = std::to_array<Name>({
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
});

constexpr auto kInLayer = std::to_array<Name>({
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.qkv_proj", "attn_qkv"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.gate_up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"input_layernorm", "attn_norm"},
});

constexpr auto kPreOnly = std::to_array<Name>({
    {"post_attention_layernorm", "ffn_norm"},
});

constexpr auto kPreAndPost = std::to_array<Name>({
    {"post_attention_layernorm", "post_attention_norm"},
    {"pre_feedforward_layernorm", "ffn_norm"},
    {"post_feedforward_layernorm", "post_ffw_norm"},
});

template <class Names>
std::string_view look_up(const Names& names, std::string_view hf) {
  const auto it =
      std::find_if(names.begin(), names.end(), [&](const Name& n) { return n.hf == hf; });
  return it == names.end() ? std::string_view() : it->canonical;
}

/// Splits "a.b.weight" into "a.b" and ".weight"; empty second part when it is neither kind.
std::pair<std::string_view, std::string_view> split_kind(std::string_view name) {
  for (const std::string_view kind : {std::string_view(".weight"), std::string_view(".bias")}) {
    if (name.ends_with(kind)) return {name.substr(0, name.size() - kind.size()), kind};
  }
  return {name, {}};
}

}  // namespace

std::optional<LayerTensor> split_layer_name(std::string_view hf_name) {
  const auto [stem, kind] = split_kind(hf_name);
  constexpr std::string_view kLayers = "model.layers.";
  if (kind.empty() || !stem.starts_with(kLayers)) return std::nullopt;
  const auto rest = stem.substr(kLayers.size());
  const std::size_t n_digits = std::min(rest.find('.'), rest.size());
  const auto layer = rest.substr(0, n_digits);
  if (layer.empty() || layer.size() > 6 || n_digits == rest.size() ||
      layer.find_first_not_of("0123456789") != std::string_view::npos) {
    return std::nullopt;
  }
  return LayerTensor{layer, rest.substr(n_digits + 1), kind};
}

std::optional<std::string> canonical_tensor_name(std::string_view hf_name, NormNames norms) {
  const auto [stem, kind] = split_kind(hf_name);
  if (kind.empty()) return std::nullopt;
  if (const auto outside = look_up(kOutside, stem); !outside.empty()) {
    return std::string(outside).append(kind);
  }
  const auto place = split_layer_name(hf_name);
  if (!place) return std::nullopt;
  auto found = look_up(kInLayer, place->part);
  if (found.empty()) {
    found = norms == NormNames::pre_only ? look_up(kPreOnly, place->part)
                                         : look_up(kPreAndPost, place->part);
  }
  if (found.empty()) return std::nullopt;
  return std::string("blk.").append(place->layer).append(".").append(found).append(kind);
}

std::string hf_tensor_name(std::string_view canonical_name,
                           std::optional<std::string> (*to_canonical)(std::string_view)) {
  constexpr std::string_view kLayers = "blk.";
  // Named, not bound: clang 14 does not let a lambda capture structured bindings.
  const auto parts = split_kind(canonical_name);
  auto stem = parts.first;
  const auto kind = parts.second;
  std::string prefix;
  if (stem.starts_with(kLayers)) {
    const std::size_t dot = stem.find('.', kLayers.size());
    if (dot == std::string_view::npos) return {};
    prefix = "model.layers." + std::string(stem.substr(kLayers.size(), dot + 1 - kLayers.size()));
    stem.remove_prefix(dot + 1);
  }
  std::string found;
  const auto search = [&](const auto& names) {
    for (const Name& name : names) {
      if (name.canonical != stem || !found.empty()) continue;
      std::string candidate = std::string(prefix).append(name.hf).append(kind);
      if (to_canonical(candidate) == canonical_name) found = std::move(candidate);
    }
  };
  search(kOutside);
  search(kInLayer);
  search(kPreOnly);
  search(kPreAndPost);
  return found;
}

}  // namespace larder
