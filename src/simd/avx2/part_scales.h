// Scales of a part of codes as floats, and what else CodeFit::range needs, for the files of this
// set that read codes. Everything is inlined; nothing here is compiled on its own.
#pragma once

#include <immintrin.h>

#include "simd/avx2/codes.h"

namespace larder::simd::avx2 {
namespace {

/// Where CodeFit::range: scales and zeros of the elements of a group's planes, two for each plane,
/// and if codes have 2 bits the four elements that there are of each.
struct Ranges {
  const float *scales, *zeros, *fours;
};

/// Rounded to bf16.
[[gnu::always_inline]] inline __m256 round_to_bf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i half_up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
  return _mm256_castsi256_ps(
      _mm256_and_si256(_mm256_add_epi32(bits, half_up), _mm256_set1_epi32(-65536)));
}

/// The four values of a book of 2 bits, twice.
inline __m256 four_values(const CodeBook& book) {
  const __m128i words = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(book.values));
  const __m128 four = _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), words));
  return _mm256_set_m128(four, four);
}

/// Of up to kMost rows or channels.
template <std::size_t kMost>
struct PartScales {
  alignas(32) float scales[kMost], zeros[kMost], fours[4 * kMost];

  /// Of `n` that stand behind the codes of a part, an even number, as those from `first` on.
  void read(const CodeBook& book, const std::byte* halves, std::size_t n, std::size_t first = 0) {
    read_halves(halves, n, scales + first);
    if (book.fit != CodeFit::range) return;
    read_halves(halves + 2 * n, n, zeros + first);
    if (book.bits != 2) return;
    const __m256 values = four_values(book);
    for (std::size_t i = first; i < first + n; i += 2) {
      const __m256 x = _mm256_fmadd_ps(values, twice_four(scales + i), twice_four(zeros + i));
      _mm256_store_ps(fours + 4 * i, round_to_bf16(x));
    }
  }
  Ranges ranges() const { return {scales, zeros, fours}; }

 private:
  static __m256 twice_four(const float* x) {
    return _mm256_set_m128(_mm_broadcast_ss(x + 1), _mm_broadcast_ss(x));
  }
};

}  // namespace
}  // namespace larder::simd::avx2
