// How parts of ggml blocks are multiplied: by integers, of which sums are exact.
//
// A row's 32 channels (a *group*) have a scale s and integers k in common, so that a score is
//   sum over groups of s * <q of the group, k>.
// The 32 elements of q are rounded to integers x of 16 bits with a unit of their own, the largest
// magnitude being kTopInteger:
//   unit = largest * (1 / kTopInteger),  x = nearest(q * (kTopInteger / largest)), ties to even;
// where `largest` is below kLeastLargest they are zero. Then <x, k> is an exact sum, whatever its
// order, and a score is, in floats and by ascending groups, from zero on,
//   score = fma(<x, k>, s * unit, score).
// V the same way: weights w = p * s of the 32 rows (a *stretch*; the last of a block may have 16)
// and of a group of channels are rounded to integers x with one unit, and by ascending stretches
//   sum = fma(<x, k>, unit, sum),  out += sum at the end.
// So the results are the same to the bit for every set that does so, layout and number of queries.
// Rounding errors: 2^-16 of the largest of 32 elements for each of them, so 2^-11 of it for their
// sum at most, where bf16's rounding has 2^-8. NaN and infinity are in `largest`, found by
// comparing bits without signs, and thereby in the unit, and reach the result.
//
// The amx set alone rounds queries and weights to bf16, and so does more in tiles
// (amx/ggml_rows.cc).
//
// *Integer parts* are such parts prepared for many queries:
//   K [n / 16][d / 32][16 planes][16 tokens][2 channels], plane 2 j + e of a group having its
//   channels 4 j + e and 4 j + e + 2 (what bytes of four channels side by side unpack to);
//   V [n / 2][d][2 tokens]; integers of 16 bits, then [d / 32][n] scales, f32.
#pragma once

#include <cstddef>

#include "simd/simd.h"

namespace larder::simd {

inline constexpr std::size_t kGroupChannels = 32;
inline constexpr std::size_t kStretchTokens = 32;
inline constexpr std::size_t kMaxGroups = kMaxHeadDim / kGroupChannels;
inline constexpr float kTopInteger = 32767.0F;
inline constexpr float kLeastLargest = 0x1p-100F;

/// Of an integer part; in a part, where its scales begin.
[[gnu::always_inline]] constexpr std::size_t integer_bytes(BlockShape shape) noexcept {
  return std::size_t{shape.block_tokens} * shape.head_dim * 2;
}
[[gnu::always_inline]] constexpr std::size_t integer_part_bytes(BlockShape shape) noexcept {
  return integer_bytes(shape) + std::size_t{shape.block_tokens} * shape.head_dim / 8;
}

}  // namespace larder::simd
