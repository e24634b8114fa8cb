// Queries as the first rows of a sequence meet them, where others were dropped.
#include <algorithm>

#include "model/forward.h"

namespace larder {

/// Queries for the sinks, at another distance than that in the text. Keys keep their rotation.
void ForwardPass::meet_sinks(std::uint32_t layer, const ForwardBatch& batch) {
  for (std::size_t i = 0; i < batch.sequences.size(); ++i) {
    const SequenceRows& s = batch.sequences[i];
    if (s.n_sinks == 0 || s.n_past == s.n_stored[layer]) continue;
    s.sink_cap == 0 ? turn_to_cache(layer, s) : turn_to_cap(layer, s);
    items_[i].sink_q = sink_rows(s);
    items_[i].n_sinks = s.n_sinks;
    items_[i].each_sink_apart = s.sink_cap != 0;
  }
}

float* ForwardPass::sink_rows(const SequenceRows& s) {
  const std::size_t width = std::size_t{config_.n_heads} * config_.head_dim;
  return sink_q_.data() + s.first_row * width * std::max(limits_.n_capped, 1U);
}

/// From their position to their place in the cache, as if no row between the two had been dropped
/// but had never been there. Method: Xiao et al. 2023 (arXiv:2309.17453).
void ForwardPass::turn_to_cache(std::uint32_t layer, const SequenceRows& s) {
  const std::size_t q_width = std::size_t{config_.n_heads} * config_.head_dim;
  const std::size_t n_angles = turn_back_.inv_freq.size();
  const std::uint32_t n_dropped = s.n_past - s.n_stored[layer];
  const auto cos = turn_cos_.span().first(n_angles), sin = turn_sin_.span().first(n_angles);
  rope_angles(turn_back_, std::span(&n_dropped, 1), cos, sin);
  compute_.simd.scale(-1.0F, sin.data(), n_angles);
  compute_.pool.for_each(s.n_rows, [&](std::size_t row, unsigned) {
    float* q = sink_rows(s) + row * q_width;
    std::copy_n(q_.data() + (s.first_row + row) * q_width, q_width, q);
    rope_rotate(turn_back_, cos, sin, q, 1, q_width, config_.n_heads, config_.head_dim);
    if (layouts_[layer].k->rotates) compute_.simd.hadamard(q, config_.n_heads, config_.head_dim);
    compute_.simd.scale(config_.score_scale(), q, q_width);
  });
}

/// For each sink, from their position to `sink_cap` behind it where they stand further away: back
/// from the position to the cap, the same for all sinks, and on by the sink's own position.
/// Method: Han et al. 2023 (arXiv:2308.16137).
void ForwardPass::turn_to_cap(std::uint32_t layer, const SequenceRows& s) {
  const std::size_t q_width = std::size_t{config_.n_heads} * config_.head_dim;
  const std::size_t n_angles = turn_back_.inv_freq.size();
  for (std::uint32_t row = 0; row < s.n_rows; ++row) {
    turns_[row] = s.n_past + row - std::min(s.n_past + row, s.sink_cap);
  }
  rope_angles(turn_back_, std::span(turns_).first(s.n_rows),
              turn_cos_.span().first(s.n_rows * n_angles),
              turn_sin_.span().first(s.n_rows * n_angles));
  compute_.simd.scale(-1.0F, turn_sin_.data(), s.n_rows * n_angles);
  compute_.pool.for_each(s.n_rows, [&](std::size_t row, unsigned) {
    const float* from = q_.data() + (s.first_row + row) * q_width;
    float* q = sink_rows(s) + row * s.n_sinks * q_width;
    for (std::uint32_t sink = 0; sink < s.n_sinks; ++sink, q += q_width) {
      std::copy_n(from, q_width, q);
      const auto turn = [&](const Buffer<float>& cos, const Buffer<float>& sin, std::size_t at) {
        rope_rotate(turn_back_, cos.span().subspan(at * n_angles, n_angles),
                    sin.span().subspan(at * n_angles, n_angles), q, 1, q_width, config_.n_heads,
                    config_.head_dim);
      };
      if (turns_[row] > sink) {
        turn(turn_cos_, turn_sin_, row);
        turn(sink_cos_, sink_sin_, sink);
      }
      if (layouts_[layer].k->rotates) compute_.simd.hadamard(q, config_.n_heads, config_.head_dim);
      compute_.simd.scale(config_.score_scale(), q, q_width);
    }
  });
}

}  // namespace larder
