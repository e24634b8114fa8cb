// Floats as simd/byte_kernels.h asks for them, eight at a time. Everything is inlined; nothing here
// is compiled on its own.
#pragma once

#include <immintrin.h>

#include <cstddef>

#include "simd/avx2/codes.h"

namespace larder::simd::avx2 {
namespace {

struct ByteFloats {
  static constexpr std::size_t kLanes = 8;
  static constexpr auto read_halves = avx2::read_halves;

  static __m256 scales(const std::byte* halves) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
  }
  static __m256 load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(float* to, __m256 x) { _mm256_storeu_ps(to, x); }
  static __m256 splat(float x) { return _mm256_set1_ps(x); }
  static __m256 fma(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
  // Inlined early: GCC 12 drops calls of a function that does nothing but this.
  [[gnu::always_inline]] static void fetch(const std::byte* line) {
    _mm_prefetch(reinterpret_cast<const char*>(line), _MM_HINT_T0);
  }
};

}  // namespace
}  // namespace larder::simd::avx2
