#include "model/latent_attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/rmsnorm.h"

namespace larder {
namespace {

// DeepSeek-V2's norms of latents keep this epsilon whatever the model's own is.
constexpr float kLatentNormEps = 1e-6F;

LatentShape latent_shape(const ModelConfig& c, std::uint32_t block_tokens) {
  const float plain_scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
  return {.n_heads = c.n_heads,
          .kv_rank = c.latent.kv_rank,
          .nope_dim = c.latent.nope_dim,
          .rope_dim = c.latent.rope_dim,
          .v_dim = c.latent.v_dim,
          .block_tokens = block_tokens,
          .scale = c.attention_scale != 0 ? c.attention_scale : plain_scale};
}

}  // namespace

LatentAttention::LatentAttention(const ModelConfig& config, std::uint32_t block_tokens,
                                 const ForwardLimits& limits, unsigned n_threads)
    : config_(&config),
      shape_(latent_shape(config, block_tokens)),
      q_latent_(std::size_t{limits.max_rows} * config.latent.q_rank),
      scratch_(shape_, n_threads, limits.max_rows) {
  plain_.reserve(limits.max_sequences);
  absorbed_.reserve(limits.max_sequences);
}

std::size_t LatentAttention::scratch_bytes(const ModelConfig& config, const ForwardLimits& limits,
                                           unsigned n_threads) noexcept {
  const LatentConfig& c = config.latent;
  // The copies of transpose_heads, at most four bytes an element.
  const std::size_t transposed =
      std::size_t{config.n_layers} * config.n_heads * c.nope_dim * c.kv_rank * sizeof(float);
  return transposed + std::size_t{limits.max_rows} * c.q_rank * sizeof(float) +
         LatentScratch::n_bytes(latent_shape(config, 0), n_threads, limits.max_rows);
}

void LatentAttention::run(const Compute& compute, const LatentStep& step) {
  project(compute, step);
  rotate(compute, step);
  split_items(step);
  append_latent_rows(compute, shape_, step.layout, step.items, step.rows);
  const LatentWeights& w = step.weights.latent;
  const LatentHeads heads{w.k_up, w.v_up, w.k_absorb};
  attend_plain(compute, {shape_, step.layout, heads, plain_, step.q, step.attended}, scratch_);
  attend_absorbed(compute, {shape_, step.layout, heads, absorbed_, step.q, step.attended},
                  scratch_);
}

/// Queries, and the rows to be cached: latents through their norm, keys not yet rotated.
void LatentAttention::project(const Compute& compute, const LatentStep& step) {
  const LatentWeights& w = step.weights.latent;
  const std::size_t row_dim = shape_.row_dim(), q_width = step.weights.q.n_out;
  const std::size_t q_rank = config_->latent.q_rank;
  linear(compute, w.kv_a, step.input, {step.rows, step.n_rows * row_dim}, row_dim);
  if (q_rank != 0) {
    linear(compute, w.q_a, step.input, q_latent_.span(), q_rank);
  }
  compute.pool.for_each(step.n_rows, [&](std::size_t row, unsigned) {
    float* latent = step.rows + row * row_dim;
    rmsnorm(compute.simd, latent, w.kv_a_norm, kLatentNormEps, shape_.kv_rank, latent);
    if (q_rank == 0) return;
    float* q_latent = q_latent_.data() + row * q_rank;
    rmsnorm(compute.simd, q_latent, w.q_a_norm, kLatentNormEps, q_rank, q_latent);
  });
  if (q_rank != 0) step.input.set(q_latent_.data(), step.n_rows, q_rank);
  linear(compute, step.weights.q, step.input, {step.q, step.n_rows * q_width}, q_width);
}

/// Rope, then into the basis that the rows of the layer are cached in. Queries meet latents in that
/// basis only in the absorbed form, which sees to it.
void LatentAttention::rotate(const Compute& compute, const LatentStep& step) const {
  const std::size_t n_angles = step.rope.inv_freq.size();
  const std::size_t q_width = std::size_t{shape_.n_heads} * shape_.key_dim();
  compute.pool.for_each(step.n_rows, [&](std::size_t row, unsigned) {
    const auto cos = step.cos.subspan(row * n_angles, n_angles);
    const auto sin = step.sin.subspan(row * n_angles, n_angles);
    float* q = step.q + row * q_width + shape_.nope_dim;
    rope_rotate(step.rope, cos, sin, q, 1, q_width, shape_.n_heads, shape_.key_dim());
    float* latent = step.rows + row * shape_.row_dim();
    float* key = latent + shape_.kv_rank;
    rope_rotate(step.rope, cos, sin, key, 1, shape_.rope_dim, 1, shape_.rope_dim);
    if (step.layout.v->rotates) compute.simd.hadamard(latent, 1, shape_.kv_rank);
    if (!step.layout.k->rotates) return;
    compute.simd.hadamard(key, 1, shape_.rope_dim);
    for (std::uint32_t head = 0; head < shape_.n_heads; ++head, q += shape_.key_dim()) {
      compute.simd.hadamard(q, 1, shape_.rope_dim);
    }
  });
}

/// The plain rows of a sequence come before its absorbed ones.
void LatentAttention::split_items(const LatentStep& step) {
  plain_.clear();
  absorbed_.clear();
  for (std::size_t i = 0; i < step.items.size(); ++i) {
    const AttentionItem& item = step.items[i];
    const std::uint32_t n_plain = std::min(step.batch.sequences[i].n_plain, item.n_rows);
    if (n_plain > 0) plain_.push_back({item, 0, n_plain});
    if (n_plain < item.n_rows) absorbed_.push_back({item, n_plain, item.n_rows - n_plain});
  }
}

}  // namespace larder
