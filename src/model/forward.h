// The forward pass of a decoder-only transformer over one ragged batch of sequences.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/attention.h"
#include "kernels/block_choice.h"
#include "kernels/column_sums.h"
#include "kernels/compute.h"
#include "kernels/linear.h"
#include "kernels/query_moments.h"
#include "kernels/rope.h"
#include "model/experts.h"
#include "model/forward_batch.h"
#include "model/latent_attention.h"
#include "model/weights.h"
#include "tensor/buffer.h"

namespace larder {

/// Owns the activations; borrows everything else. Allocates at construction and in `make_room`
/// only. One batch at a time. A row's result depends on its sequence alone: not on the batch, the
/// chunking or the threads.
class ForwardPass {
 public:
  /// Hears of what a layer's attention reads, behind its norm: rows [n_rows, n_embd], gone when the
  /// call returns. On the thread that runs the batch.
  using AttentionObserver = std::function<void(std::uint32_t layer, std::span<const float> rows)>;
  void observe_attention(AttentionObserver observer) { observer_ = std::move(observer); }
  /// The same of the keys that a layer is about to cache, before rope: [n_rows, n_kv_heads,
  /// head_dim]. Nothing is heard of latent attention.
  void observe_keys(AttentionObserver observer) { key_observer_ = std::move(observer); }

  /// `layouts` [n_layers]; of a layer that reads another's rows, the other's.
  ForwardPass(const Weights& weights, const Compute& compute, std::span<const KvLayout> layouts,
              std::uint32_t block_tokens, const ForwardLimits& limits);

  /// For sequences that want more than was known at construction: has_sinks, n_capped,
  /// sums_attention and n_reread, none less than before; nothing else may differ. Between batches.
  /// Where memory cannot be had (std::bad_alloc) it is what it was.
  void make_room(const ForwardLimits& limits);

  /// Computes all rows of the batch and appends their K and V to the blocks.
  void run(const ForwardBatch& batch);
  /// Logits of the given rows of the last batch. out: [rows.size(), n_vocab].
  /// REQUIRES: rows.size() <= max_logit_rows, rows of the last batch.
  void logits(std::span<const std::uint32_t> rows, std::span<float> out);

  /// The hidden state of a row of the last batch behind the last norm. out: [n_embd]
  void hidden(std::uint32_t row, std::span<float> out) const;

  /// What the activations of such a pass take, to be checked before they are allocated.
  static std::size_t scratch_bytes(const ModelConfig& config, const ForwardLimits& limits,
                                   unsigned n_threads) noexcept;

 private:
  void make_room_for_sinks(const ForwardLimits& limits);
  void embed(const ForwardBatch& batch);
  void attention_part(std::uint32_t layer, const ForwardBatch& batch);
  void grouped_attention(std::uint32_t layer, const ForwardBatch& batch);
  void latent_attention(std::uint32_t layer, const ForwardBatch& batch);
  void feed_forward_part(std::uint32_t layer);
  void dense_feed_forward(const LayerWeights& w);
  void rotate_rows(const KvLayout& layout, bool owns_kv);
  void attend_rows(std::uint32_t layer, const ForwardBatch& batch);
  void observe_queries(std::uint32_t layer, const ForwardBatch& batch);
  void observe(std::uint32_t layer, const ForwardBatch& batch);
  void meet_sinks(std::uint32_t layer, const ForwardBatch& batch);
  void turn_to_cache(std::uint32_t layer, const SequenceRows& s);
  void turn_to_cap(std::uint32_t layer, const SequenceRows& s);
  float* sink_rows(const SequenceRows& s);
  void set_items(std::uint32_t layer, const ForwardBatch& batch);
  void normalise(const Buffer<float>& from, const float* weight, Buffer<float>& to);
  void add_normed(const Buffer<float>& delta, const float* post_norm);
  void head_norm(Buffer<float>& x, std::uint32_t n_heads, const float* weight);
  AttentionShape attention_shape(std::uint32_t layer) const;

  const Weights& weights_;
  const ModelConfig& config_;
  const Compute& compute_;
  std::vector<KvLayout> layouts_;  // [n_layers]
  const std::uint32_t block_tokens_;
  ForwardLimits limits_ = {};
  std::uint32_t n_rows_ = 0;                   // of the batch at work
  AttentionObserver observer_, key_observer_;  // usually none

  struct Rope {  // one kind of layer: global, or local (Gemma 3)
    RopeTable table;
    Buffer<float> cos, sin;  // [max_rows, n_rot / 2]
  };
  RopeTable turn_back_;  // with ForwardLimits::has_sinks: angles of queries for sinks,
  Buffer<float> turn_cos_, turn_sin_;  // [max_rows, n_rot / 2],
  Buffer<float> sink_cos_, sink_sin_;  // [n_capped, n_rot / 2] of the sinks' own positions,
  std::vector<std::uint32_t> turns_;   // [max_rows]
  Buffer<float> sink_q_;      // and these queries: [max_rows, max(n_capped, 1), n_heads, head_dim]
  std::vector<Rope> ropes_;   // [0] global, [1] local when it differs
  Buffer<float> x_;           // [max_rows, n_embd] residual stream
  Buffer<float> normed_;      // [max_rows, n_embd]
  Buffer<float> q_, k_, v_;   // [max_rows, n_heads or n_kv_heads, head_dim]; k_ of latent attention
                              // holds its rows [max_rows, row_dim]
  Buffer<float> attended_;    // [max_rows, n_heads, value_dim]
  Buffer<float> delta_;       // [max_rows, n_embd] what a part adds to x
  Buffer<float> gate_, up_;   // [max_rows, max_ff]
  Buffer<float> logit_rows_;  // [max_logit_rows, n_embd]
  LinearInput input_;
  AttentionScratch attention_scratch_;    // empty with latent attention
  BlockChoice block_choice_;              // with ForwardLimits::reading
  std::vector<std::uint32_t> n_full_;     // [max_sequences]
  LatentAttention latent_;                // empty without
  Experts experts_;                       // empty without
  ColumnScratch column_scratch_;          // with ForwardLimits::sums_attention
  std::vector<CountedRows> counted_;      // [max_sequences]
  std::vector<ObservedRows> observed_;    // [max_sequences]
  std::vector<AttentionItem> items_;      // [max_sequences]
  std::vector<std::uint32_t> positions_;  // [max_rows]
  Buffer<std::byte> fresh_;               // of KvLayout, for the layer at work; empty if none seals
};

}  // namespace larder
