// Planes of codes with CodeFit::range to bf16 pairs in registers (layout: simd/code_book.h), for
// the files of this set that read codes. Everything is inlined; nothing here is compiled on its
// own.
#pragma once

#include "simd/avx512/planes.h"

namespace larder::simd::avx512 {
namespace {

/// The two words of a lane belong to channels of K, or rows of V, with scales and zeros of their
/// own, and a plane has the same two in all lanes. So their elements, 16 of each at most, are one
/// table of 32 words, which bit 4 of an index chooses between.
template <int kBits>
struct RangeReader {
  static_assert(kBits == 2 || kBits == 4);
  static constexpr int kPlanes = PlaneReader<kBits>::kPlanes;
  using Indices = typename PlaneReader<kBits>::Indices;

  __m512 values;  // of codes 0 to 15, repeated where there are fewer

  explicit RangeReader(const CodeBook& book) {
    const auto* const words = reinterpret_cast<const __m256i*>(book.values);
    const __m512i wide = _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_load_si256(words));
    values = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, wide, 16));
  }

  /// The elements zeros[i] + scales[i] * value of both words. The products are exact.
  [[gnu::always_inline]] __m512i table(const float* scales, const float* zeros) const {
    const __m512 even =
        _mm512_fmadd_ps(values, _mm512_set1_ps(scales[0]), _mm512_set1_ps(zeros[0]));
    const __m512 odd = _mm512_fmadd_ps(values, _mm512_set1_ps(scales[1]), _mm512_set1_ps(zeros[1]));
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even));
  }
  /// Plane i of a group.
  template <int i>
  [[gnu::always_inline]] static __m512i plane(__m512i words, __m512i table) {
    const __m512i codes = _mm512_set1_epi16((1 << kBits) - 1);
    const __m512i second = _mm512_set1_epi32(0x00100000);
    constexpr int kAndOr = 0xea;
    const __m512i shifted = _mm512_srli_epi16(words, kBits * i);
    return _mm512_permutexvar_epi16(_mm512_ternarylogic_epi32(shifted, codes, second, kAndOr),
                                    table);
  }
};

}  // namespace
}  // namespace larder::simd::avx512
