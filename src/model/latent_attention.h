// The attention part of a layer with multi-head latent attention.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/mla_attention.h"
#include "kernels/rope.h"
#include "model/forward_batch.h"
#include "model/weights.h"
#include "tensor/buffer.h"

namespace larder {

/// Where a batch stands and what a layer works on.
struct LatentStep {
  const LayerWeights& weights;
  const KvLayout& layout;
  const ForwardBatch& batch;
  std::span<const AttentionItem> items;  // of the sequences of the batch
  std::uint32_t n_rows;
  const RopeTable& rope;
  std::span<const float> cos, sin;  // [n_rows, rope_dim / 2]
  LinearInput& input;               // set to the normed rows
  float* q;                         // [n_rows, n_heads, head_dim], overwritten
  float* rows;                      // [n_rows, row_dim], overwritten: what is cached
  float* attended;                  // [n_rows, n_heads, v_dim], the result
};

/// Owns the memory of the two forms; allocates at construction only.
class LatentAttention {
 public:
  LatentAttention() = default;
  LatentAttention(const ModelConfig& config, std::uint32_t block_tokens,
                  const ForwardLimits& limits, unsigned n_threads);

  void run(const Compute& compute, const LatentStep& step);

  static std::size_t scratch_bytes(const ModelConfig& config, const ForwardLimits& limits,
                                   unsigned n_threads) noexcept;

 private:
  void project(const Compute& compute, const LatentStep& step);
  void rotate(const Compute& compute, const LatentStep& step) const;
  void split_items(const LatentStep& step);

  const ModelConfig* config_ = nullptr;
  LatentShape shape_;
  Buffer<float> q_latent_;  // [max_rows, q_rank]
  LatentScratch scratch_;
  std::vector<LatentItem> plain_, absorbed_;  // [max_sequences] of each form
};

}  // namespace larder
