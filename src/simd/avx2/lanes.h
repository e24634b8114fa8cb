// Loads, stores and sums of eight floats.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstring>

namespace larder::simd::avx2 {

/// The first n < 8 floats at p; zero in the other lanes.
inline __m256 load_first(const float* p, std::size_t n) {
  alignas(32) float lanes[8] = {};
  std::memcpy(lanes, p, n * sizeof(float));
  return _mm256_load_ps(lanes);
}

inline void store_first(float* p, __m256 v, std::size_t n) {
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, v);
  std::memcpy(p, lanes, n * sizeof(float));
}

inline float sum_lanes(__m256 v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace larder::simd::avx2
