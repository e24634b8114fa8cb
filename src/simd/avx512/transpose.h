// Sixteen vectors of sixteen dwords. Inlined; nothing here is compiled on its own.
#pragma once

#include <immintrin.h>

#include <cstddef>

#include "simd/unroll.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kLanes = 16;

/// rows[i] lane j <-> rows[j] lane i.
[[gnu::always_inline]] inline void transpose(__m512i (&rows)[kLanes]) {
  __m512i a[kLanes];
  LARDER_UNROLL
  for (int i = 0; i < 8; ++i) {
    a[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    a[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  }
  LARDER_UNROLL
  for (int i = 0; i < 4; ++i) {
    rows[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
    rows[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
    rows[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
    rows[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
  }
  LARDER_UNROLL
  for (int i = 0; i < 4; ++i) {
    a[i] = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88);
    a[4 + i] = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
    a[8 + i] = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
    a[12 + i] = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
  }
  LARDER_UNROLL
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm512_shuffle_i32x4(a[i], a[4 + i], 0x88);
    rows[8 + i] = _mm512_shuffle_i32x4(a[i], a[4 + i], 0xdd);
    rows[4 + i] = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0x88);
    rows[12 + i] = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0xdd);
  }
}

}  // namespace
}  // namespace larder::simd::avx512
