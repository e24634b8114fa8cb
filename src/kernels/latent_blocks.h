// Blocks of latent rows, raw or sealed, as the two forms of latent attention read them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/mla_attention.h"
#include "simd/simd.h"

namespace larder {

/// A block whose rows queries see.
struct LatentBlock {
  const std::byte* data;
  const std::byte* next;  // read next, fetched meanwhile; may be null
  bool is_open;           // stands in the formats of open blocks, though the layer seals
};

/// Which rows of which blocks a query sees where the layer seals: those of its own block as the
/// open formats have them, those of earlier ones as they were sealed.
/// REQUIRES: the step has rows in `block` when `is_own`; else the block is in the table.
LatentBlock latent_block(const LatentShape& shape, const KvLayout& layout,
                         const AttentionItem& step, std::uint32_t block, bool is_own) noexcept;

/// Multiplies queries and weights with a block. Sealed parts are decoded to bf16 values, the
/// scales of whose rows go to the scores or the weights; what comes out for one query does not
/// depend on the others.
class LatentBlockReader {
 public:
  /// Of `memory`, which one thread uses; whole cache lines.
  static std::size_t n_floats(const LatentShape& shape);

  LatentBlockReader(const simd::Table& simd, const LatentShape& shape, const KvLayout& layout,
                    float* memory);

  /// scores = <latent part of the query, latent> + <its rope part, key> for all rows of the block;
  /// q_latent [n_q, kv_rank], q_rope [n_q, rope_dim], n_q <= kLatentTile.
  void scores(const float* q_latent, const float* q_rope, const LatentBlock& block,
              simd::ScoreTile scores) const;
  /// out [n_q, kv_rank] += weights times latents of the first `n_tokens` rows, of sealed blocks all
  /// of them. Spoils the weights.
  void accumulate(simd::ScoreTile weights, const LatentBlock& block, std::uint32_t n_tokens,
                  float* out) const;
  /// The first `n_tokens` rows: latents [n_tokens, kv_rank], in their own basis, and keys
  /// [n_tokens, rope_dim], in that of the cache.
  void read(const LatentBlock& block, std::uint32_t n_tokens, float* latents, float* keys) const;

 private:
  struct Decoded {  // a part: values, and what an element is made of them
    const std::byte* part;
    const KvCodec* codec;  // that multiplies the part: raw
    bool decoded = false;  // stands in `values_`, not in the pool
    bool scaled = false;   // element = scales[token] * value
  };
  Decoded key_part(const LatentBlock& block) const;
  Decoded latent_part(const LatentBlock& block) const;
  Decoded decode(const KvCodec& codec, const std::byte* part, simd::BlockShape shape,
                 bool is_key) const;
  void key_scores(const float* q, const LatentBlock& block, simd::ScoreTile scores) const;

  const simd::Table& simd_;
  const LatentShape& s_;
  const KvLayout& layout_;
  const KvShape parts_;
  float* const values_;  // a decoded part
  float* const scales_;  // [block_tokens] of a part
  float* const sums_;    // [kLatentTile, block_tokens] scores of keys
};

}  // namespace larder
