// Codes of packed weights (tensor/packed.h) as the signed bytes that they stand for.
#pragma once

#include <immintrin.h>

#include <cstddef>

#include "tensor/packed.h"

namespace larder::simd::amx {

inline constexpr std::size_t kScaleBytes = kPanelRows * 2;  // of a group, before its codes
/// Of a group of 32 columns of a panel as signed bytes: [8 quads of columns][32 rows][4].
inline constexpr std::size_t kQuads = 8, kQuadBytes = kPanelRows * 4;
inline constexpr std::size_t kGroupTileBytes = kQuads * kQuadBytes;

struct Q8_0Codes {
  static constexpr std::size_t kBytes = 1024;

  static void read(const std::byte* codes, std::byte* tile) {
    const __m512i offset = _mm512_set1_epi8(-128);
    for (std::size_t i = 0; i < kGroupTileBytes; i += 64) {
      _mm512_store_si512(tile + i, _mm512_xor_si512(_mm512_load_si512(codes + i), offset));
    }
  }
};

struct Q4_0Codes {
  static constexpr std::size_t kBytes = 512;

  static void read(const std::byte* codes, std::byte* tile) {
    const __m512i low = _mm512_set1_epi8(15), offset = _mm512_set1_epi8(8);
    for (std::size_t i = 0; i < kBytes; i += 64) {
      const __m512i v = _mm512_load_si512(codes + i);
      _mm512_store_si512(tile + i, _mm512_sub_epi8(_mm512_and_si512(v, low), offset));
      _mm512_store_si512(tile + kBytes + i,
                         _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16(v, 4), low), offset));
    }
  }
};

}  // namespace larder::simd::amx
