// Attention over paged K and V: the attention state, its merge, and one ragged batch of sequences.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/block_id.h"
#include "codec/kv_codec.h"
#include "kernels/compute.h"
#include "kernels/kv_layout.h"
#include "tensor/buffer.h"

namespace larder {

/// Result of attending to any set of cached rows: running maximum, sum of exponentials and weighted
/// value. The empty set is {-inf, 0, zeros}. Two states over disjoint sets merge exactly.
///   out [head_dim]: sum of exp(s - max) * v, not yet divided by `sum`.
struct AttentionState {
  float max;
  float sum;
  float* out;
};
/// into = into merged with from (Milakov & Gimelshein 2018, arXiv:1805.02867).
void merge_state(AttentionState& into, const AttentionState& from, std::size_t head_dim);

/// The cached rows of one KV head of one layer of one sequence, as the kernels see them.
struct KvRows {
  std::span<const BlockId> blocks;  // blocks[i] holds rows (first_block + i) * block_tokens ...
  std::uint32_t first_block = 0;    // earlier blocks left the window and were freed
  BlockId open{};                   // block being filled, beside `blocks`, where the layer seals
  std::uint32_t n_fewer = 0;        // rows that it holds fewer than AttentionItem::n_past says
};

/// One sequence's share of a step: `n_rows` new tokens whose K and V are already appended.
struct AttentionItem {
  std::uint32_t first_row;  // where its queries begin in the batch
  std::uint32_t n_rows;     // queries: 1 when decoding, a chunk when prefilling
  std::uint32_t n_past;  // cached rows before the first of them, the most of any KV head; query i
                         // sees n_past + i + 1 rows, itself included
  std::span<const KvRows> heads;  // [n_kv_heads]
  std::uint32_t fresh_slot = 0;   // of its first fresh block (kernels/kv_layout.h)
  /// Queries as the first `n_sinks` rows meet them, in place of those for all rows: [n_rows,
  /// n_heads, head_dim], rotated and scaled. Null: the same ones.
  const float* sink_q = nullptr;
  std::uint32_t n_sinks = 0;     // kMaxSinkRows at most
  bool each_sink_apart = false;  // sink_q is [n_rows, n_sinks, n_heads, head_dim]
  bool ends_in_fresh = false;    // the step has more rows, which it leaves out, behind its last
                                 // block: that is a fresh one, not the open one
};
/// Cached rows of a KV head before the item's first query.
inline std::uint32_t n_past_of(const AttentionItem& item, std::uint32_t kv_head) noexcept {
  return item.n_past - item.heads[kv_head].n_fewer;
}
inline constexpr std::uint32_t kMaxSinkRows = 128;

struct AttentionShape {
  std::uint32_t n_heads, n_kv_heads, head_dim;  // n_heads a multiple of n_kv_heads
  std::uint32_t block_tokens;
  std::uint32_t window = 0;  // a query sees this many newest rows, its own included; 0: all
  float scale = 0;           // of the scores, usually 1 / sqrt(head_dim)
  float soft_cap = 0;        // scores become cap * tanh(score / cap); 0: off (Gemma 2)
};

/// Rows of a block run: rows [i * kRunTokens, (i + 1) * kRunTokens) of a sequence give one state,
/// and the states of the runs that a query sees are merged in ascending order. So the result
/// depends on position alone: not on threads, batch, or how the prompt was cut into chunks.
inline constexpr std::uint32_t kRunTokens = 512;

struct AttentionTask;
struct TileRow;
struct TileRows;

/// Memory that `attend` works in, sized once for the largest step. One step at a time uses it.
class AttentionScratch {
 public:
  AttentionScratch() = default;
  /// For steps of at most `max_rows` rows and `max_sequences` items, each seeing at most
  /// `max_context` rows. One scratch serves layers that differ in window, scale and cap; where head
  /// counts differ too, `shape` takes the largest of each. Bytes, with q = max(n_heads, 96):
  ///   per thread  4 * (48 * 512 + q * (3 * head_dim + 4)), rounded up;
  ///   plan        40 * n_kv_heads * max_rows + 36 * max_rows, and with more than one thread
  ///               320 * n_threads * (n_kv_heads + 3);
  ///   and with more than one thread, partial states of the long contexts that are split,
  ///   min(16 MiB, 4 * ceil(max_context / 512) * (head_dim + 2) * (t * group + q)), where
  ///   t = min(8 * n_threads, n_kv_heads * max_sequences): decoding contexts and one prefill tile.
  /// When partial states run out, fewer contexts are split: slower, the same bits.
  /// `decodes`: some layer has a sealed format; per thread 4096 + 2176 * head_dim bytes more at
  /// most, for a run that many queries read.
  AttentionScratch(const AttentionShape& shape, unsigned n_threads, std::uint32_t max_rows,
                   std::uint32_t max_context, std::uint32_t max_sequences, bool decodes = false);
  ~AttentionScratch();
  AttentionScratch(AttentionScratch&&) noexcept;
  AttentionScratch& operator=(AttentionScratch&&) noexcept;

 private:
  friend struct AttentionScratchAccess;
  std::size_t thread_floats_ = 0;
  bool decodes_ = false;
  Buffer<float> states_;         // partial states of split contexts
  Buffer<float> workspaces_;     // [n_threads, thread_floats_]: queries, scores, states
  Buffer<std::uint32_t> order_;  // the plan of the running step: items,
  Buffer<TileRow> rows_;         // their rows,
  Buffer<TileRows> tiles_;       // the rows that are worked on together,
  Buffer<AttentionTask> tasks_;  // what the threads take,
  Buffer<AttentionTask> folds_;  // and the tiles that were split
};

/// What a batch brings the cache: of its row r, K of all KV heads at k + r * k_stride, V at
/// v + r * v_stride, f32, K with its position's rotation.
struct NewRows {
  const float *k, *v;
  std::size_t k_stride, v_stride;
};
/// Appends the rows to the open blocks, and seals those that are full then where the layer seals.
/// REQUIRES: the blocks exist and are owned by this sequence alone.
void append_rows(const Compute& compute, std::uint32_t n_kv_heads, const KvShape& shape,
                 const KvLayout& layout, std::span<const AttentionItem> items, const NewRows& rows);
/// The same for k, v: [n_batch_rows, n_kv_heads, head_dim].
void append_rows(const Compute& compute, const AttentionShape& shape, const KvLayout& layout,
                 std::span<const AttentionItem> items, const float* k, const float* v);

/// out[row, head, :] = softmax(scale * q K^T) V for each query row of each item, causal and
/// windowed.
///   q, out [n_batch_rows, n_heads, head_dim] f32, q rotated and not yet scaled.
/// Each cached row is read from memory once per group of query heads, and once for all decoding
/// sequences that share its block. Allocates nothing; cannot fail.
void attend(const Compute& compute, const AttentionShape& shape, const KvLayout& layout,
            std::span<const AttentionItem> items, const float* q, float* out,
            AttentionScratch& scratch);

}  // namespace larder
