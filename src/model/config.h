// What a decoder-only transformer is: sizes and switches, the same for every file kind.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "larder/result.h"

namespace larder {

/// Which two channels of a head rotate together.
enum class RopeStyle : std::uint8_t {
  adjacent,  // (2i, 2i + 1): llama.cpp's "norm", used by GGUF files of the llama architecture
  halves     // (i, i + n/2): "neox", Hugging Face's layout
};

enum class RopeScaling : std::uint8_t { none, linear, llama3, yarn, longrope };

struct RopeConfig {
  RopeStyle style = RopeStyle::halves;
  std::uint32_t n_rot = 0;  // rotated channels of a head, the first ones; 0 in files: head_dim
  float base = 10000.0F;
  float local_base = 0;  // base of sliding-window layers (Gemma 3); 0: same as `base`
  RopeScaling scaling = RopeScaling::none;
  float factor = 1.0F;                                    // linear, llama3, yarn
  std::uint32_t original_context = 0;                     // context before scaling
  float low_freq_factor = 1.0F, high_freq_factor = 4.0F;  // llama3
  float beta_fast = 32.0F, beta_slow = 1.0F;              // yarn
  float attention_factor = 0;  // yarn, longrope: multiplies sin and cos; 0: by the formula
  float mscale_all_dim = 0;    // yarn of DeepSeek: scores grow by (1 + 0.1 this ln(factor))^2
  std::vector<float> short_factors, long_factors;  // longrope: [n_rot / 2]
  std::vector<float> frequency_divisors;  // GGUF rope_freqs.weight: [n_rot / 2], empty: none
};

enum class Activation : std::uint8_t { silu, gelu_tanh };

/// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434). Cached per token and layer: one row
/// of `kv_rank` latent channels, after their norm, and `rope_dim` channels of a rotated key that
/// all heads share. The key of a head is `nope_dim` channels made of the latent, then those.
struct LatentConfig {
  std::uint32_t kv_rank = 0;  // 0: no latent attention
  std::uint32_t q_rank = 0;   // width of the queries' own latent; 0: none
  std::uint32_t nope_dim = 0, rope_dim = 0, v_dim = 0;

  std::uint32_t row_dim() const noexcept { return kv_rank + rope_dim; }
};

/// Mixture of experts as DeepSeek-V2 has it: a softmax over all experts, the `n_used` best of each
/// token, beside experts that every token uses.
struct ExpertConfig {
  std::uint32_t n_experts = 0;                    // 0: every feed-forward part is dense
  std::uint32_t n_used = 0;                       // of each token
  std::uint32_t n_shared = 0;                     // joined into one of n_shared * n_ff
  std::uint32_t n_ff = 0;                         // width of one expert
  std::uint32_t n_dense_layers = 0;               // the first layers have no experts
  std::uint32_t n_groups = 1, n_groups_used = 1;  // only the groups with the best experts take part
  float weights_scale = 1.0F;                     // of the chosen experts' probabilities
  bool normalise = false;                         // so that they sum to 1 before that
};

struct ModelConfig {
  std::string arch;  // GGUF's general.architecture: "llama", "qwen2", "gemma3", ...
  std::string name;  // general.name; may be empty
  std::uint32_t n_layers = 0;
  std::uint32_t n_embd = 0;
  std::uint32_t n_ff = 0;
  std::uint32_t n_heads = 0;
  std::uint32_t n_kv_heads = 0;  // 1 with latent attention: all heads share the cached row
  std::uint32_t head_dim = 0;    // of queries and keys; with latent attention nope_dim + rope_dim
  std::uint32_t n_vocab = 0;
  std::uint32_t n_context_train = 0;
  float norm_eps = 1e-5F;
  RopeConfig rope;
  Activation activation = Activation::silu;
  float attention_scale = 0;     // 0: 1 / sqrt(head_dim)
  float attention_soft_cap = 0;  // 0: none
  float logit_soft_cap = 0;      // 0: none
  float embedding_scale = 1.0F;  // Gemma multiplies embeddings by sqrt(n_embd)
  std::uint32_t window = 0;      // sliding window in tokens; 0: none
  std::vector<std::uint8_t>
      windowed;                // [n_layers] 1: the layer uses `window`; empty: all do if window > 0
  bool qk_norm = false;        // RMS norm of each q and k head before rope
  bool post_norms = false;     // norms after attention and feed-forward as well (Gemma 2, 3)
  bool fused_qkv = false;      // attn_qkv.weight instead of three (Phi-3)
  bool fused_gate_up = false;  // ffn_up.weight holds gate and up (Phi-3)
  LatentConfig latent;
  ExpertConfig experts;
  /// [n_layers] the layer whose K and V a layer reads, an earlier one or itself (cross-layer
  /// attention, arXiv:2405.12981); empty: each its own.
  std::vector<std::uint32_t> kv_owner;

  std::uint32_t layer_window(std::uint32_t layer) const noexcept {
    return window != 0 && (windowed.empty() || windowed[layer] != 0) ? window : 0;
  }
  bool has_latent() const noexcept { return latent.kv_rank != 0; }
  bool has_experts(std::uint32_t layer) const noexcept {
    return experts.n_experts != 0 && layer >= experts.n_dense_layers;
  }
  std::uint32_t owner(std::uint32_t layer) const noexcept {
    return kv_owner.empty() ? layer : kv_owner[layer];
  }
  bool owns_kv(std::uint32_t layer) const noexcept { return owner(layer) == layer; }
  std::uint32_t n_owners() const noexcept;  // layers that own cached rows
  /// Rows that an owner's cache must hold: the widest window among its readers; 0: all.
  std::uint32_t cache_window(std::uint32_t owner) const noexcept;
  /// Channels of a head's value: the width of what attention gives back.
  std::uint32_t value_dim() const noexcept { return has_latent() ? latent.v_dim : head_dim; }
  /// What scores of attention without a latent are multiplied by.
  float score_scale() const noexcept;
  /// Width of the widest feed-forward part: dense, one expert, or the shared ones.
  std::uint32_t max_ff() const noexcept {
    const std::uint32_t shared = std::max(1U, experts.n_shared) * experts.n_ff;
    return std::max(n_ff, shared);
  }
};

/// Refuses sizes no real model has (zero or absurd counts, n_heads not a multiple of n_kv_heads,
/// odd head_dim, ...) before anything is allocated by them. `origin` names the file in messages.
Result<void> validate(const ModelConfig& config, const std::string& origin);

}  // namespace larder
