// The type `V` of simd/panel.h for AVX2: panels of eight rows.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace larder::simd::avx2 {

struct Vectors {
  using Ints = __m256i;
  using Floats = __m256;
  static constexpr std::size_t kRows = 8;
  static constexpr bool kSignedBytes = true;  // the sign is moved to x, see linear_q8.cc
  struct Columns {
    Ints v[4];
  };

  static Ints bytes(int v) { return _mm256_set1_epi8(static_cast<char>(v)); }
  static Ints dwords(int v) { return _mm256_set1_epi32(v); }
  static Ints shift_left(Ints v, int n) { return _mm256_sll_epi16(v, _mm_cvtsi32_si128(n)); }
  static Ints shift_right(Ints v, int n) { return _mm256_srl_epi16(v, _mm_cvtsi32_si128(n)); }
  static Ints shift_down(Ints v, unsigned n) {
    return _mm256_srl_epi32(v, _mm_cvtsi32_si128(static_cast<int>(n)));
  }
  static Ints byte_sign(Ints v, unsigned i) {
    const __m128i left = _mm_cvtsi32_si128(static_cast<int>(24 - 8 * i));
    return _mm256_srai_epi32(_mm256_sll_epi32(v, left), 24);
  }
  static Floats to_floats(Ints v) { return _mm256_cvtepi32_ps(v); }
  static Floats low_f16(Ints v) { return high_f16(_mm256_slli_epi32(v, 16)); }
  static Floats high_f16(Ints v) {
    const Ints halves = _mm256_srli_epi32(v, 16);
    return _mm256_cvtph_ps(
        _mm_packus_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
  }

  /// Bits 4 i .. 4 i + 3 of each lane as 0 or 16 in its four bytes.
  static Ints fifth_bits(Ints v, int i) {
    const Ints first_byte = _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0, 0x04040404,
                                              0x08080808, 0x0c0c0c0c);
    const Ints spread = _mm256_shuffle_epi8(v, _mm256_add_epi8(first_byte, bytes(i / 2)));
    const Ints pick = dwords(i % 2 == 0 ? 0x08040201 : static_cast<int>(0x80402010U));
    return _mm256_cmpeq_epi8(spread & pick, pick) & bytes(16);
  }

  /// v[c], lane r = dword c of the 16 bytes at p + r * stride.
  static Columns load_columns(const std::uint8_t* p, std::size_t stride) {
    Ints rows[4];  // 128-bit half i of rows[j] is row 4 i + j
    for (std::size_t j = 0; j < 4; ++j) {
      const std::uint8_t* q = p + j * stride;
      rows[j] =
          _mm256_inserti128_si256(_mm256_castsi128_si256(load16(q)), load16(q + 4 * stride), 1);
    }
    const Ints a = _mm256_unpacklo_epi32(rows[0], rows[1]);
    const Ints b = _mm256_unpackhi_epi32(rows[0], rows[1]);
    const Ints c = _mm256_unpacklo_epi32(rows[2], rows[3]);
    const Ints d = _mm256_unpackhi_epi32(rows[2], rows[3]);
    return {{_mm256_unpacklo_epi64(a, c), _mm256_unpackhi_epi64(a, c), _mm256_unpacklo_epi64(b, d),
             _mm256_unpackhi_epi64(b, d)}};
  }
  /// Lane r = the dword at p + r * stride.
  static Ints load_column(const std::uint8_t* p, std::size_t stride) {
    const std::uint8_t* q = p + 4 * stride;
    return _mm256_setr_epi32(load4(p), load4(p + stride), load4(p + 2 * stride),
                             load4(p + 3 * stride), load4(q), load4(q + stride),
                             load4(q + 2 * stride), load4(q + 3 * stride));
  }
  static void store(std::uint8_t (*codes)[4], Ints v) {
    _mm256_store_si256(reinterpret_cast<Ints*>(codes), v);
  }
  static void store(float* p, Floats v) { _mm256_store_ps(p, v); }

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

}  // namespace larder::simd::avx2
