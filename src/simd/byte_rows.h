// Rows of 8-bit integers with a scale each, and how they are multiplied: by integers, of which sums
// are exact.
//
// A *byte part* has bytes with a sign, -127 to 127, in fours that stand together,
//   K [n / 16][d / 4][16 tokens][4 channels], V [n / 4][d][4 tokens],
// as instructions of VNNI and AMX read them; then [n] scales, f16. An element is scale * byte. The
// largest magnitude of a row becomes 127, or less where its scale is denormal.
//
// A query's elements are rounded to integers x of 16 bits with one unit, the largest magnitude
// being kTopBytes:
//   unit = largest * (1 / kTopBytes),  x = nearest(q * (kTopBytes / largest)), ties to even;
// where `largest` is below kLeastLargest (simd/integer_rows.h) they are zero. x is 256 * high +
// low, two signed bytes, so that <x, k> is an exact sum of products of bytes, whatever its order.
//   score = (nearest float of <x, k> * unit) * s.
// V the same way: a query's weights times the scales of their rows are rounded to integers x with
// one unit for all of a run, or for as many of its blocks at a time as kByteRun tokens hold,
//   out = fma(nearest float of <x, v>, unit, out).
// So the results of finite numbers are the same to the bit for every set and any number of queries,
// and weights of zero change nothing. Rounding errors: 2^-16 of the largest element for each of
// them, where bf16's is 2^-9 of the element itself. NaN and infinity are in `largest`, found by
// comparing bits without signs, thereby in the unit, and the result is not finite either.
#pragma once

#include <cstddef>

#include "simd/simd.h"

namespace larder::simd {

inline constexpr float kTopBytes = 32639.0F;  // 127 * 256 + 127
inline constexpr std::size_t kByteRun = 512;  // tokens

/// Of a byte part; where its scales begin.
[[gnu::always_inline]] constexpr std::size_t bytes_of_rows(BlockShape shape) noexcept {
  return std::size_t{shape.block_tokens} * shape.head_dim;
}
[[gnu::always_inline]] constexpr std::size_t byte_part_bytes(BlockShape shape) noexcept {
  return bytes_of_rows(shape) + 2 * std::size_t{shape.block_tokens};
}

/// Where the byte of an element stands.
[[gnu::always_inline]] constexpr std::size_t byte_at_k(std::size_t token, std::size_t channel,
                                                       BlockShape shape) noexcept {
  return token / 16 * 16 * shape.head_dim + channel / 4 * 64 + token % 16 * 4 + channel % 4;
}
[[gnu::always_inline]] constexpr std::size_t byte_at_v(std::size_t token, std::size_t channel,
                                                       BlockShape shape) noexcept {
  return (token / 4 * shape.head_dim + channel) * 4 + token % 4;
}

/// Tokens whose weights are rounded together.
[[gnu::always_inline]] constexpr std::size_t byte_run_tokens(BlockShape shape) noexcept {
  return kByteRun / shape.block_tokens * shape.block_tokens;
}

}  // namespace larder::simd
