// Codes of packed weights (tensor/packed.h) as the bf16 numbers that they stand for.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "tensor/packed.h"

namespace larder::simd::amx {

inline constexpr std::size_t kScaleBytes = kPanelRows * 2;  // of a group, before its codes
/// Of a group of 32 columns of a panel as bf16: [16 pairs][32 rows][2]. A quad of columns makes two
/// pairs, of its columns 0 and 2 and of 1 and 3.
inline constexpr std::size_t kPairBytes = kPanelRows * 4;
inline constexpr std::size_t kGroupTileBytes = 16 * kPairBytes;

struct Q8_0Codes {
  static constexpr std::size_t kBytes = 1024;

  /// A byte becomes the low end of the mantissa of a large float; what is subtracted makes it the
  /// number itself, of at most 8 bits, so that the upper half of the float is all of it.
  static void read(const std::byte* codes, std::byte* tile) {
    const __m512i first = _mm512_set1_epi32(0xff), second = _mm512_set1_epi32(0xff00);
    const __m512i two_23 = _mm512_set1_epi32(0x4b000000), two_15 = _mm512_set1_epi32(0x47000000);
    const __m512 start_23 = _mm512_set1_ps(8388608.0F + 128.0F);
    const __m512 start_15 = _mm512_set1_ps(32768.0F + 128.0F);
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000U));
    constexpr int kAndOr = 0xea;  // (a & b) | c
    const auto even = [&](__m512i v) {
      return _mm512_castps_si512(_mm512_sub_ps(
          _mm512_castsi512_ps(_mm512_ternarylogic_epi32(v, first, two_23, kAndOr)), start_23));
    };
    const auto odd = [&](__m512i v) {
      return _mm512_castps_si512(_mm512_sub_ps(
          _mm512_castsi512_ps(_mm512_ternarylogic_epi32(v, second, two_15, kAndOr)), start_15));
    };
    const auto pair = [&](__m512i a, __m512i b) {
      return _mm512_ternarylogic_epi32(b, upper, _mm512_srli_epi32(a, 16), kAndOr);
    };
    for (std::size_t i = 0; i < 16; ++i) {  // half a quad
      const __m512i v = _mm512_load_si512(codes + i * 64), w = _mm512_srli_epi32(v, 16);
      std::byte* to = tile + i / 2 * 2 * kPairBytes + i % 2 * 64;
      _mm512_store_si512(to, pair(even(v), even(w)));
      _mm512_store_si512(to + kPairBytes, pair(odd(v), odd(w)));
    }
  }
};

struct Q4_0Codes {
  static constexpr std::size_t kBytes = 512;

  /// The low bits of each word look up their number.
  static void read(const std::byte* codes, std::byte* tile) {
    alignas(64) static constexpr std::uint16_t kNumbers[32] = {
        0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80,  // -8 to -1
        0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0,  // 0 to 7
        0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80,  // whatever bit 4 is
        0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0};
    const __m512i numbers = _mm512_load_si512(kNumbers);
    for (std::size_t i = 0; i < 8; ++i) {  // half a quad, and that four quads on
      const __m512i v = _mm512_load_si512(codes + i * 64);
      std::byte* to = tile + i / 2 * 2 * kPairBytes + i % 2 * 64;
      _mm512_store_si512(to, _mm512_permutexvar_epi16(v, numbers));
      _mm512_store_si512(to + kPairBytes,
                         _mm512_permutexvar_epi16(_mm512_srli_epi16(v, 8), numbers));
      to += 8 * kPairBytes;
      _mm512_store_si512(to, _mm512_permutexvar_epi16(_mm512_srli_epi16(v, 4), numbers));
      _mm512_store_si512(to + kPairBytes,
                         _mm512_permutexvar_epi16(_mm512_srli_epi16(v, 12), numbers));
    }
  }
};

}  // namespace larder::simd::amx
