// Fewer KV heads: GQA or MQA out of MHA, fewer groups out of GQA.
#pragma once

#include <cstdint>

#include "larder/result.h"
#include "model/surgery/attention_layer.h"

namespace larder {

struct PoolHeads {
  std::uint32_t n_kv_heads = 0;  // wanted: divides the model's
  /// Heads of a group are brought into agreement before they become one, and what reads them is
  /// changed to match. Keys: each rotary pair of a head is turned and scaled (a complex factor; the
  /// only maps that commute with the rotation), with norms on q and k heads only its sign; values:
  /// any linear map, undone in the output projection.
  bool align = false;
};

/// The layer with every `config.n_kv_heads / to.n_kv_heads` neighbouring KV heads made into one.
/// Not aligned: K and V (and biases) are averaged (Ainslie et al. 2023, arXiv:2305.13245).
/// Aligned: per rotary pair the best rank-1 approximation of the heads' keys, seen as complex
/// numbers and weighted by the energy of the queries that meet them; per group the best rank-
/// head_dim approximation of the values, weighted by the output projection (aligning before
/// pooling: arXiv:2412.20677). Both are exact when heads differ by such maps only. `moment` says
/// what inputs look like. REQUIRES: n_kv_heads divides the model's.
AttentionLayer pool_heads(const AttentionLayer& layer, const ModelConfig& config,
                          const PoolHeads& to, const InputMoment& moment);

}  // namespace larder
