// A whole model with multi-head latent attention in DeepSeek-V2's form.
#pragma once

#include <complex>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "larder/result.h"
#include "model/io/model_source.h"
#include "model/surgery/latent_layer.h"
#include "model/surgery/pooled_source.h"

namespace larder {

/// Which rotary pairs keep rope. `high` and `uniform` give frequencies that a rope base alone
/// describes, as long as each pair is kept at most once.
enum class RopeChoice : std::uint8_t {
  high,     // those that turn fastest
  uniform,  // evenly spread over the frequencies
  norm,     // those whose scores have most energy, over all layers
  loss      // those whose scores change most without it: energy, times how much a pair turns
};

/// DeepSeek-V2 puts an RMS norm behind the latent, which the source does not have.
enum class LatentNorm : std::uint8_t {
  rms,    // the norm works: usual magnitudes, to be trained, but a latent's length is lost
  linear  // latents so small that the norm's epsilon makes it linear: exact, but beyond f16 and
          // quantised types, and not to be trained
};

struct ToLatent {
  std::uint32_t kv_rank = 0;   // latent channels, even; 0: so that the cache is half the source's
  std::uint32_t rope_dim = 0;  // of the shared rotary key; 0: a head's, at most half of the half
  RopeChoice choice = RopeChoice::loss;
  LatentNorm norm = LatentNorm::rms;
};

/// Components of each pair that keep rope, `n` in all. importance: [n_pairs][n_kv_heads], falling;
/// `norm` and `loss` take the largest, the others take first components before second ones.
/// REQUIRES: n <= n_pairs * n_kv_heads.
std::vector<std::uint32_t> choose_rope(RopeChoice choice, std::uint32_t n,
                                       const std::vector<std::vector<double>>& importance);

/// What stands for the rotation of a pair that loses its rope: e^(i frequency distance), averaged
/// over the distances from which tokens are read. Those are taken to be 0 to n_distances - 1 (at
/// most 65535), distance n as often as 1 / (n + 1). The mean is the constant that is nearest to the
/// rotation: near 1 for slow pairs, small for fast ones. [n_frequencies]
std::vector<std::complex<double>> mean_turns(std::span<const float> frequencies,
                                             std::uint32_t n_distances);

/// The rope configuration whose table is `frequencies` (angles per position): by a base where one
/// does, else by divisors. Adjacent pairs.
RopeConfig rope_with(const std::vector<float>& frequencies, float base);

/// Errors: unsupported, with the reason (biases, norms on heads, windows, soft caps, feed-forward
/// parts or scalings that DeepSeek-V2's form does not have), invalid_argument (sizes), those of
/// read_attention and ReplacedSource. Memory: as pool_model. REQUIRES: Weights::load accepted the
/// source.
Result<std::unique_ptr<ModelSource>> latent_model(std::unique_ptr<ModelSource> source,
                                                  const ToLatent& to,
                                                  const SurgerySettings& settings);

}  // namespace larder
