// How rows of codes of 8-bit integers (CodeSearch::integer) are multiplied by sets with tiles of
// bytes, which is by integers.
//
// A row has a scale s and integers k of 8 bits. A query's elements are rounded to integers x of 16
// bits with one unit, the largest magnitude being kTopBytes:
//   unit = largest * (1 / kTopBytes),  x = nearest(q * (kTopBytes / largest)), ties to even;
// where `largest` is below kLeastLargest (simd/integer_rows.h) they are zero. x is 256 * high +
// low, two signed bytes, so that <x, k> is an exact sum of products of bytes, whatever its order.
//   score = (nearest float of <x, k> * unit) * s.
// V the same way: a query's weights times the scales of their rows are rounded to integers x with
// one unit for all of a run, or for as many of its blocks at a time as kByteRun tokens hold,
//   out = fma(nearest float of <x, v>, unit, out).
// So the results are the same to the bit for any number of queries, and weights of zero change
// nothing. Rounding errors: 2^-16 of the largest element for each of them, where bf16's is 2^-9 of
// the element itself. NaN and infinity are in `largest`, found by comparing bits without signs,
// thereby in the unit, and the result is not finite either.
//
// *Byte parts* are such parts prepared for many queries, in the order of tiles of bytes:
//   K [n / 16][d / 4][16 tokens][4 channels], V [n / 4][d][4 tokens], bytes with a sign.
#pragma once

#include <cstddef>

namespace larder::simd {

inline constexpr float kTopBytes = 32639.0F;  // 127 * 256 + 127
inline constexpr std::size_t kByteRun = 512;  // tokens

}  // namespace larder::simd
