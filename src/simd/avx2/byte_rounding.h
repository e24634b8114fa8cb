// Rows of integers in place of floats (simd/byte_rows.h), for sets with vectors of eight floats.
// Everything is inlined; nothing here is compiled on its own.
#pragma once

#include <immintrin.h>

#include <bit>

#include "simd/byte_rows.h"
#include "simd/integer_rows.h"

namespace larder::simd::avx2 {
namespace {

/// Bits without signs of the largest magnitude.
inline __m256i larger(__m256i so_far, __m256 x) {
  const __m256i size = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
  return _mm256_max_epi32(so_far, size);
}
inline float largest_of(__m256i sizes) {
  __m128i x = _mm_max_epi32(_mm256_castsi256_si128(sizes), _mm256_extracti128_si256(sizes, 1));
  x = _mm_max_epi32(x, _mm_shuffle_epi32(x, _MM_SHUFFLE(1, 0, 3, 2)));
  x = _mm_max_epi32(x, _mm_shuffle_epi32(x, _MM_SHUFFLE(2, 3, 0, 1)));
  return std::bit_cast<float>(_mm_cvtsi128_si32(x));
}

/// How numbers become integers of 16 bits, and these numbers again.
struct Rounding {
  float unit, inverse;

  explicit Rounding(__m256i sizes) {
    const float largest = largest_of(sizes);
    const bool is_zero = largest < kLeastLargest;
    unit = is_zero ? 0.0F : largest * (1.0F / kTopBytes);
    inverse = is_zero ? 0.0F : kTopBytes / largest;
  }
  [[gnu::always_inline]] __m256i operator()(const float* x) const {
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), _mm256_set1_ps(inverse)));
  }
};

/// What x [n] is rounded by, n a multiple of 8.
inline Rounding rounding_of(const float* x, std::size_t n) {
  __m256i sizes = _mm256_setzero_si256();
  for (std::size_t i = 0; i < n; i += 8) sizes = larger(sizes, _mm256_loadu_ps(x + i));
  return Rounding(sizes);
}
/// What the products x y [n] are rounded by, which go to `products`.
inline Rounding rounding_of_products(const float* x, const float* y, std::size_t n,
                                     float* products) {
  __m256i sizes = _mm256_setzero_si256();
  for (std::size_t i = 0; i < n; i += 8) {
    const __m256 product = _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i));
    sizes = larger(sizes, product);
    _mm256_storeu_ps(products + i, product);
  }
  return Rounding(sizes);
}

}  // namespace
}  // namespace larder::simd::avx2
