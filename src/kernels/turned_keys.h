// Keys as they were before rope, in blocks whose rows have consecutive positions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "codec/key_codes.h"
#include "kernels/kv_layout.h"
#include "kernels/rope.h"

namespace larder {

/// Sines and cosines of all positions of a sequence as sums of two angles, that of a block's first
/// position and that of a row within a block: 8 n_half (n_context / block_tokens + block_tokens)
/// bytes instead of 8 n_half n_context.
class BlockAngles {
 public:
  /// The amplitude of `rope` is left out: keys before rope have it.
  BlockAngles(const RopeTable& rope, std::uint32_t block_tokens, std::uint32_t n_context);
  /// Sets the angles of `turn` to those of rows block * block_tokens and following.
  /// REQUIRES: the block begins before n_context
  void set(std::uint32_t block, simd::KeyTurn& turn) const;

 private:
  std::size_t n_half_, block_tokens_, n_blocks_;
  bool adjacent_;
  std::vector<float> block_cos_, block_sin_;  // [n_blocks_, n_half_]
  std::vector<float> row_cos_, row_sin_;      // [n_half_, block_tokens_]
};

/// A block of a sequence: of which KV head, and its index. Row r of it has position block *
/// block_tokens + r: no row before it was dropped.
struct KeyPlace {
  std::uint32_t kv_head, block;
};
/// REQUIRES: layout.k->before_rope
KeyCoding key_coding(const KvLayout& layout, std::size_t head_dim, const KeyPlace& place);

}  // namespace larder
