// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434) over paged rows, in its two forms.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "kernels/compute.h"
#include "kernels/linear.h"
#include "tensor/buffer.h"

namespace larder {

/// One cached row per token: `kv_rank` latent channels and `rope_dim` of the rotated key that all
/// heads share. They stand under one "KV head": the rotated key as K, the latent as V, each in its
/// own format, so that the pool, the tables and the sharing and sealing of blocks know nothing of
/// them. Where the format of a part rotates, the rows stand in that basis (simd::Table::hadamard).
struct LatentShape {
  std::uint32_t n_heads = 0;
  std::uint32_t kv_rank = 0, nope_dim = 0, rope_dim = 0, v_dim = 0;
  std::uint32_t block_tokens = 0;
  float scale = 0;  // of the scores

  std::uint32_t row_dim() const noexcept { return kv_rank + rope_dim; }  // of a cached row
  KvShape parts() const noexcept { return {{block_tokens, rope_dim}, {block_tokens, kv_rank}}; }
  std::uint32_t key_dim() const noexcept { return nope_dim + rope_dim; }  // of a head's query
};

/// The matrices between latent and heads: [n_heads] each. With c the latent of a token, the key of
/// a head is (k_up c, rotated key) and its value v_up c; k_absorb is k_up transposed.
struct LatentHeads {
  std::span<const LinearWeight> k_up;      // [nope_dim, kv_rank]
  std::span<const LinearWeight> v_up;      // [v_dim, kv_rank]
  std::span<const LinearWeight> k_absorb;  // [kv_rank, nope_dim]
};

/// Those of the rows that a step brings a sequence which attend in the same form.
struct LatentItem {
  AttentionItem step;       // all of them; one KV head
  std::uint32_t first = 0;  // of these rows
  std::uint32_t n_rows = 0;

  std::uint32_t first_row() const noexcept { return step.first_row + first; }  // in the batch
  /// Cached rows before the first one; query i sees n_past + i + 1.
  std::uint32_t n_past() const noexcept { return step.n_past + first; }
};

/// One call's arguments. q [n_batch_rows, n_heads, key_dim], with rope, not scaled, its rope
/// channels in the basis of the cached keys; out [n_batch_rows, n_heads, v_dim].
struct LatentCall {
  const LatentShape& shape;
  const KvLayout& layout;
  const LatentHeads& heads;
  std::span<const LatentItem> items;
  const float* q;
  float* out;
};

/// Memory that the two forms work in, sized once; one call at a time uses it.
class LatentScratch {
 public:
  LatentScratch() = default;
  /// For calls of at most `max_rows` queries.
  LatentScratch(const LatentShape& shape, unsigned n_threads, std::uint32_t max_rows);
  /// What the constructor allocates.
  static std::size_t n_bytes(const LatentShape& shape, unsigned n_threads, std::uint32_t max_rows);

 private:
  friend class PlainForm;
  friend class AbsorbedForm;
  struct Sizes;
  Buffer<float> max_, sum_;        // [max_rows, n_heads] states of the plain form so far
  Buffer<float> latents_, ropes_;  // [kRunTokens, kv_rank] and [.., rope_dim] of a run
  Buffer<float> keys_, tiles_;     // [kRunTokens, nope_dim], and packed with the rope part
  Buffer<float> values_;           // [kRunTokens, v_dim]
  Buffer<float> workspaces_;       // [n_threads] queries, scores, states
  std::size_t thread_floats_ = 0;
  Buffer<float> q_absorbed_;                   // [kAbsorbedRows, n_heads, row_dim]
  Buffer<float> mixed_;                        // [kAbsorbedRows, n_heads, kv_rank] weighted latents
  Buffer<float> head_in_, head_out_;           // [kAbsorbedRows, ...] of one head
  Buffer<float> absorbed_max_, absorbed_sum_;  // [kAbsorbedRows, n_heads]
  Buffer<float> slots_;                        // states of single runs
  std::size_t n_slots_ = 0;
  LinearInput input_;
};

/// Rows of the absorbed form that go through the matrices together.
inline constexpr std::uint32_t kAbsorbedRows = 64;

/// Appends rows [n_batch_rows, row_dim], latent then key, to the open blocks of the items and seals
/// the full ones, as append_rows does. Latents and keys are in the basis they are cached in.
void append_latent_rows(const Compute& compute, const LatentShape& shape, const KvLayout& layout,
                        std::span<const AttentionItem> items, const float* rows);

/// The plain form: keys and values of all heads are made from the cached rows, 512 rows at a time
/// and once per item. For an item of C queries over T rows it costs, per head,
/// T * kv_rank * (nope_dim + v_dim) + C * T * (key_dim + v_dim) multiply-adds.
void attend_plain(const Compute& compute, const LatentCall& call, LatentScratch& scratch);

/// The absorbed form: queries go into the latent space, where every head attends to the cached rows
/// themselves, and what comes out goes through v_up: per head
/// C * kv_rank * (nope_dim + v_dim) + C * T * (row_dim + kv_rank). Each cached row is read once per
/// 32 queries.
void attend_absorbed(const Compute& compute, const LatentCall& call, LatentScratch& scratch);

// In both forms a row's result depends on its sequence alone: runs of 512 rows give states that are
// merged in ascending order, as in kernels/attention.h. The two forms agree but for rounding.

}  // namespace larder
