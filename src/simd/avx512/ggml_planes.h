// Rows of ggml blocks to integers in registers, as pairs that VPDPWSSD multiplies: of channels for
// K, of tokens for V (simd/integer_rows.h). Everything is inlined; nothing here is compiled on its
// own.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "simd/unroll.h"

namespace larder::simd::avx512 {
namespace {

inline __m128i load16(const std::byte* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
inline __m256i load32(const std::byte* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

/// Of each 128-bit lane i of rows[j], dword c goes to lane i of out[c], as its dword j.
[[gnu::always_inline]] inline void transpose_lanes(const __m512i (&rows)[4], __m512i* out) {
  const __m512i a = _mm512_unpacklo_epi32(rows[0], rows[1]);
  const __m512i b = _mm512_unpackhi_epi32(rows[0], rows[1]);
  const __m512i c = _mm512_unpacklo_epi32(rows[2], rows[3]);
  const __m512i d = _mm512_unpackhi_epi32(rows[2], rows[3]);
  out[0] = _mm512_unpacklo_epi64(a, c);
  out[1] = _mm512_unpackhi_epi64(a, c);
  out[2] = _mm512_unpacklo_epi64(b, d);
  out[3] = _mm512_unpackhi_epi64(b, d);
}

template <int n>
using Index = std::integral_constant<int, n>;

/// Both kinds of blocks: `for_each_plane(blocks, row_bytes, f)` calls f(Index<p>, plane p) for the
/// 16 planes of the K tile whose first row has its block of the group at `blocks`; what planes have
/// added to their integers is kBias[p % 2]. `pairs` makes those of two neighbouring rows of V, in
/// an order of channels that `in_order` turns into theirs.
struct Q8Planes {
  static constexpr std::size_t kBlockBytes = 34;
  static constexpr int kBias[2] = {128, 0};

  template <class F>
  [[gnu::always_inline]] static void for_each_plane(const std::byte* blocks, std::size_t row_bytes,
                                                    F&& f) {
    // Rows 8 h to 8 h + 7, of which two that are four apart share a vector.
    __m512i halves[2][4];
    LARDER_UNROLL
    for (std::size_t h = 0; h < 2; ++h) {
      __m512i rows[4];
      LARDER_UNROLL
      for (std::size_t r = 0; r < 4; ++r) {
        const std::byte* const at = blocks + (8 * h + r) * row_bytes + 2;
        rows[r] =
            _mm512_inserti64x4(_mm512_castsi256_si512(load32(at)), load32(at + 4 * row_bytes), 1);
      }
      transpose_lanes(rows, halves[h]);
    }
    unpack<0>(halves, f);
    unpack<1>(halves, f);
    unpack<2>(halves, f);
    unpack<3>(halves, f);
  }
  [[gnu::always_inline]] static void pairs(const std::byte* block, std::size_t row_bytes,
                                           __m512i (&out)[2]) {
    const __m512i even = _mm512_maskz_cvtepi8_epi16(kAllWords, load32(block + 2));
    const __m512i odd = _mm512_maskz_cvtepi8_epi16(kAllWords, load32(block + row_bytes + 2));
    out[0] = _mm512_unpacklo_epi16(even, odd);
    out[1] = _mm512_unpackhi_epi16(even, odd);
  }
  // Vector h has channels 8 i + 4 h to 8 i + 4 h + 3 in its 128-bit lane i.
  [[gnu::always_inline]] static void in_order(__m512i (&vectors)[2]) {
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    const __m512i low = vectors[0];
    vectors[0] = _mm512_permutex2var_epi64(low, first, vectors[1]);
    vectors[1] = _mm512_permutex2var_epi64(low, second, vectors[1]);
  }

 private:
  static constexpr __mmask32 kAllWords = 0xffffffff;
  // The planes of dwords j and 4 + j of the rows. Even bytes have a bias so that one operation,
  // (x ^ 128) & 255, takes them out of their words.
  template <int j, class F>
  [[gnu::always_inline]] static void unpack(const __m512i (&halves)[2][4], F& f) {
    constexpr int kXorAnd = 0x28, kEvenLanes = 0x88, kOddLanes = 0xdd;
    const __m512i sign = _mm512_set1_epi16(128), byte = _mm512_set1_epi16(255);
    const __m512i low = _mm512_shuffle_i32x4(halves[0][j], halves[1][j], kEvenLanes);
    f(Index<2 * j>{}, _mm512_ternarylogic_epi32(low, sign, byte, kXorAnd));
    f(Index<2 * j + 1>{}, _mm512_srai_epi16(low, 8));
    const __m512i high = _mm512_shuffle_i32x4(halves[0][j], halves[1][j], kOddLanes);
    f(Index<8 + 2 * j>{}, _mm512_ternarylogic_epi32(high, sign, byte, kXorAnd));
    f(Index<8 + 2 * j + 1>{}, _mm512_srai_epi16(high, 8));
  }
};

struct Q4Planes {
  static constexpr std::size_t kBlockBytes = 18;
  static constexpr int kBias[2] = {8, 8};

  template <class F>
  [[gnu::always_inline]] static void for_each_plane(const std::byte* blocks, std::size_t row_bytes,
                                                    F&& f) {
    __m512i rows[4], dwords[4];
    LARDER_UNROLL
    for (std::size_t r = 0; r < 4; ++r) {
      const std::byte* const at = blocks + r * row_bytes + 2;
      __m512i four = _mm512_castsi128_si512(load16(at));
      four = _mm512_inserti32x4(four, load16(at + 4 * row_bytes), 1);
      four = _mm512_inserti32x4(four, load16(at + 8 * row_bytes), 2);
      rows[r] = _mm512_inserti32x4(four, load16(at + 12 * row_bytes), 3);
    }
    transpose_lanes(rows, dwords);
    unpack<0>(dwords[0], f);
    unpack<1>(dwords[1], f);
    unpack<2>(dwords[2], f);
    unpack<3>(dwords[3], f);
  }
  [[gnu::always_inline]] static void pairs(const std::byte* block, std::size_t row_bytes,
                                           __m512i (&out)[2]) {
    constexpr __mmask16 kAll = 0xffff;
    const __m512i even = _mm512_maskz_cvtepu8_epi32(kAll, load16(block + 2));
    const __m512i odd = _mm512_maskz_cvtepu8_epi32(kAll, load16(block + row_bytes + 2));
    const __m512i both = _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
    // Of an index the lower five bits count, and all integers are there twice.
    const __m512i table = _mm512_broadcast_i32x8(
        _mm256_setr_epi16(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7));
    out[0] = _mm512_permutexvar_epi16(both, table);
    out[1] = _mm512_permutexvar_epi16(_mm512_srli_epi16(both, 4), table);
  }
  static void in_order(__m512i (&)[2]) {}  // they are

 private:
  template <int j, class F>
  [[gnu::always_inline]] static void unpack(__m512i x, F& f) {
    const __m512i nibble = _mm512_set1_epi16(15);
    f(Index<2 * j>{}, _mm512_and_si512(x, nibble));
    f(Index<2 * j + 1>{}, _mm512_and_si512(_mm512_srli_epi16(x, 8), nibble));
    f(Index<8 + 2 * j>{}, _mm512_and_si512(_mm512_srli_epi16(x, 4), nibble));
    f(Index<8 + 2 * j + 1>{}, _mm512_srli_epi16(x, 12));
  }
};

}  // namespace
}  // namespace larder::simd::avx512
