// One layer's keys and values as multi-head latent attention: partial rope, then a joint low-rank
// approximation (MHA2MLA: Ji et al. 2025, arXiv:2502.14837; heads mixed within a rotary pair before
// rope is dropped: TransMLA, Meng et al. 2025, arXiv:2502.07864).
#pragma once

#include <complex>
#include <cstdint>
#include <vector>

#include "model/surgery/attention_layer.h"

namespace larder {

/// Keys of one rotary pair, all KV heads as complex rows z_g, turned into components by falling
/// importance: z_g = sum_j factor(j, g) m_j. Any number of the first components is the best
/// approximation by that many, weighted by the queries that meet them.
struct PairComponents {
  std::vector<double> importance;  // [n_kv_heads] energy of scores that a component carries
  Matrix re, im;                   // [n_kv_heads, n_embd + 1]: m_j
  Matrix factor_re, factor_im;     // [n_kv_heads (j), n_kv_heads (g)]
};

/// Of every rotary pair, in the order of rope_pair. [head_dim / 2]
std::vector<PairComponents> pair_components(const AttentionLayer& layer, const ModelConfig& config,
                                            const InputMoment& moment);

struct LatentLayout {
  /// [head_dim / 2] components of a pair that keep rope; the same for all layers, because they
  /// share the frequencies.
  std::vector<std::uint32_t> kept;
  /// Pairs in the order of the shared rotary key, each as often as `kept` says.
  std::vector<std::uint32_t> rope_order;
  std::uint32_t kv_rank = 0, nope_dim = 0;
  /// [head_dim / 2] what stands for the rotation by a distance, and for rope's amplitude, where a
  /// pair's components lose it: queries are multiplied by this. 1 for pairs that do not rotate.
  std::vector<std::complex<double>> turns;
  double rotated_scale = 1;  // of scores over components that keep rope: amplitude squared
  double scale_ratio = 1;    // the source's attention scale over the target's
};

struct LatentLayer {
  Matrix q;                           // [n_heads * (nope_dim + rope_dim), n_embd]
  Matrix kv_a;                        // [kv_rank + rope_dim, n_embd]
  Matrix kv_b;                        // [n_heads * (nope_dim + head_dim), kv_rank]
  std::vector<double> latent_energy;  // [kv_rank] mean squares by the moment, falling
};

/// Channels without rope that a head has under `kept`: those of pairs of which something is left.
std::uint32_t nope_channels(const std::vector<std::uint32_t>& kept, std::uint32_t n_kv_heads);

/// The rest of the keys, once the kept components are taken away, and the values go through a
/// shared latent: the best approximation of rank kv_rank, where an error in a key weighs as the
/// change of the score it makes, times what the values of that head write. Exact when kv_rank
/// reaches the rank and every rotating component is kept. REQUIRES: no biases; kv_rank <=
/// n_kv_heads * (nope_dim + head_dim).
LatentLayer to_latent(const AttentionLayer& layer, const std::vector<PairComponents>& components,
                      const ModelConfig& config, const LatentLayout& layout,
                      const InputMoment& moment);

}  // namespace larder
