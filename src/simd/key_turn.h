// Keys as they were before rope: what turns them to their positions and back.
#pragma once

#include <cstddef>
#include <cstdint>

namespace larder::simd {

/// The channels and the place of one KV head's share of a block. A key as it is cached is
/// turn(mean + spread * y), where y is what is stored and `turn` rope's rotation by the row's
/// position, without rope's amplitude. The rotation is made of two: cos and sin of position p are
/// those of the sum of the angles of the block's first position and of the row within the block.
struct KeyTurn {
  const float* mean;       // [head_dim]
  const float* spread;     // [head_dim], positive
  const float* inverse;    // [head_dim] 1 / spread
  std::size_t n_half;      // pairs of channels that rope turns; at most head_dim / 2
  bool adjacent;           // pairs (2i, 2i + 1) instead of (i, i + n_half)
  const float* block_cos;  // [n_half]
  const float* block_sin;  // [n_half]
  const float* row_cos;    // [n_half, row_stride], the rows of a block side by side
  const float* row_sin;    // [n_half, row_stride]
  std::size_t row_stride;  // at least block_tokens
};

}  // namespace larder::simd
