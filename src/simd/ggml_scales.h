// Scales of ggml blocks, for sets that have F16C. Compiled into each set by itself, with its own
// instructions: nothing here may be shared between them by the linker.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "simd/integer_rows.h"

namespace larder::simd {
namespace {

/// The scales of a part of ggml blocks of `block_bytes`, as those of an integer part.
inline void unpack_scales(const std::byte* part, std::size_t block_bytes, BlockShape shape,
                          std::byte* scales) {
  const std::size_t n_groups = shape.head_dim / kGroupChannels;
  for (std::size_t t = 0; t < shape.block_tokens; ++t) {
    for (std::size_t g = 0; g < n_groups; ++g, part += block_bytes) {
      std::uint16_t half;
      __builtin_memcpy(&half, part, sizeof(half));
      const float scale = _cvtsh_ss(half);
      __builtin_memcpy(scales + 4 * (g * shape.block_tokens + t), &scale, sizeof(scale));
    }
  }
}

}  // namespace
}  // namespace larder::simd
