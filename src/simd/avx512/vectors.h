// The type `V` of simd/panel.h for AVX-512: panels of sixteen rows.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace larder::simd::avx512 {

struct Vectors {
  using Ints = __m512i;
  using Floats = __m512;
  static constexpr std::size_t kRows = 16;
  static constexpr bool kSignedBytes = false;  // VNNI takes unsigned weights
  struct Columns {
    Ints v[4];
  };

  static Ints bytes(int v) { return _mm512_set1_epi8(static_cast<char>(v)); }
  static Ints dwords(int v) { return _mm512_set1_epi32(v); }
  static Ints shift_left(Ints v, int n) { return _mm512_sll_epi16(v, _mm_cvtsi32_si128(n)); }
  static Ints shift_right(Ints v, int n) { return _mm512_srl_epi16(v, _mm_cvtsi32_si128(n)); }
  static Ints shift_down(Ints v, unsigned n) { return _mm512_srli_epi32(v, n); }
  static Ints byte_sign(Ints v, unsigned i) {
    return _mm512_srai_epi32(_mm512_slli_epi32(v, 24 - 8 * i), 24);
  }
  static Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
  static Floats low_f16(Ints v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
  static Floats high_f16(Ints v) { return low_f16(_mm512_srli_epi32(v, 16)); }

  /// Bits 4 i .. 4 i + 3 of each lane as 0 or 16 in its four bytes.
  static Ints fifth_bits(Ints v, int i) {
    const Ints first_byte = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
    const Ints spread = _mm512_shuffle_epi8(v, _mm512_add_epi8(first_byte, bytes(i / 2)));
    const Ints pick = dwords(i % 2 == 0 ? 0x08040201 : static_cast<int>(0x80402010U));
    return _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(spread, pick), bytes(16));
  }

  /// v[c], lane r = dword c of the 16 bytes at p + r * stride.
  static Columns load_columns(const std::uint8_t* p, std::size_t stride) {
    Ints rows[4];  // 128-bit lane i of rows[j] is row 4 i + j
    for (std::size_t j = 0; j < 4; ++j) {
      const std::uint8_t* q = p + j * stride;
      Ints v = _mm512_castsi128_si512(load16(q));
      v = _mm512_inserti32x4(v, load16(q + 4 * stride), 1);
      v = _mm512_inserti32x4(v, load16(q + 8 * stride), 2);
      rows[j] = _mm512_inserti32x4(v, load16(q + 12 * stride), 3);
    }
    const Ints a = _mm512_unpacklo_epi32(rows[0], rows[1]);
    const Ints b = _mm512_unpackhi_epi32(rows[0], rows[1]);
    const Ints c = _mm512_unpacklo_epi32(rows[2], rows[3]);
    const Ints d = _mm512_unpackhi_epi32(rows[2], rows[3]);
    return {{_mm512_unpacklo_epi64(a, c), _mm512_unpackhi_epi64(a, c), _mm512_unpacklo_epi64(b, d),
             _mm512_unpackhi_epi64(b, d)}};
  }
  /// Lane r = the dword at p + r * stride.
  static Ints load_column(const std::uint8_t* p, std::size_t stride) {
    const auto four = [stride](const std::uint8_t* q) {
      return _mm_setr_epi32(load4(q), load4(q + stride), load4(q + 2 * stride),
                            load4(q + 3 * stride));
    };
    Ints v = _mm512_castsi128_si512(four(p));
    v = _mm512_inserti32x4(v, four(p + 4 * stride), 1);
    v = _mm512_inserti32x4(v, four(p + 8 * stride), 2);
    return _mm512_inserti32x4(v, four(p + 12 * stride), 3);
  }
  static void store(std::uint8_t (*codes)[4], Ints v) { _mm512_store_si512(codes, v); }
  static void store(float* p, Floats v) { _mm512_store_ps(p, v); }

 private:
  static __m128i load16(const std::uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static int load4(const std::uint8_t* p) {
    int u = 0;
    std::memcpy(&u, p, sizeof u);
    return u;
  }
};

}  // namespace larder::simd::avx512
