// Planes of codes (layout: simd/code_book.h), for the files of this set that read or write them. A
// plane is two vectors of eight lanes with a pair of elements each, and half of a group is what the
// lower or the upper 32 bytes of its words hold. Everything is inlined; nothing here is compiled on
// its own.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "simd/code_book.h"

namespace larder::simd::avx2 {
namespace {

/// The two elements of eight lanes.
struct Pair {
  __m256 first, second;
};

/// f(integral_constant 0), ..., f(integral_constant n - 1).
template <class F, int... i>
[[gnu::always_inline]] inline void for_each_of(std::integer_sequence<int, i...>, F&& f) {
  (f(std::integral_constant<int, i>{}), ...);
}

inline __m256i load_words(const std::byte* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
inline Pair floats_of(__m256i bf16_pairs) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(bf16_pairs, 16)),
          _mm256_castsi256_ps(_mm256_and_si256(bf16_pairs, _mm256_set1_epi32(-65536)))};
}
/// Of floats that are exact in bf16.
inline __m256i bf16_pairs(const Pair& x) {
  return _mm256_or_si256(
      _mm256_srli_epi32(_mm256_castps_si256(x.first), 16),
      _mm256_and_si256(_mm256_castps_si256(x.second), _mm256_set1_epi32(-65536)));
}

template <int kBitsOfCode>
struct Groups {
  static constexpr int kBits = kBitsOfCode;
  static constexpr int kPlanes = static_cast<int>(group_planes(kBits));
  static constexpr int kBytes = static_cast<int>(n_words(kBits)) * 64;
  using Indices = std::make_integer_sequence<int, kPlanes>;
  using TwoIndices = std::make_integer_sequence<int, kPlanes / 2>;
};

}  // namespace
}  // namespace larder::simd::avx2
