#include <immintrin.h>

#include "simd/avx2/primitives.h"

namespace larder::simd::avx2 {
namespace {

int max_lane(__m256i v) {
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
  return _mm_cvtsi128_si32(m);
}

int sum_lanes(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
  return _mm_cvtsi128_si32(s);
}

}  // namespace

void quantize_q8(const float* x, std::size_t n_rows, const Q8Rows& rows) {
  // Rows follow each other without gaps in all three arrays, so they are one long run of blocks.
  const std::size_t n_blocks = n_rows * rows.n_cols / 32;
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  for (std::size_t b = 0; b < n_blocks; ++b) {
    __m256 v[4];
    __m256i bits = _mm256_setzero_si256();  // of |x|: they order like |x|, infinity and NaN on top
    for (std::size_t i = 0; i < 4; ++i) {
      v[i] = _mm256_loadu_ps(x + b * 32 + i * 8);
      bits = _mm256_max_epi32(bits, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
    }
    const int max_bits = max_lane(bits);
    const float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(max_bits)));
    std::int32_t* sums = rows.sums + b * 2;
    auto* q_out = reinterpret_cast<__m256i*>(rows.q + b * 32);
    if (!(largest >= 1e-30F && max_bits < 0x7f800000)) {  // 127 / largest overflows; inf; NaN
      rows.scales[b] = max_bits < 0x7f800000 ? 0.0F : __builtin_nanf("");
      _mm256_storeu_si256(q_out, _mm256_setzero_si256());
      sums[0] = sums[1] = 0;
      continue;
    }
    rows.scales[b] = largest / 127.0F;
    const __m256 inverse = _mm256_set1_ps(127.0F / largest);
    __m256i q[4];
    for (int i = 0; i < 4; ++i) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
    sums[0] = sum_lanes(_mm256_add_epi32(q[0], q[1]));
    sums[1] = sum_lanes(_mm256_add_epi32(q[2], q[3]));
    // Packing works within 128-bit halves and leaves groups of four in the order 0 2 4 6 1 3 5 7.
    const __m256i packed =
        _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    _mm256_storeu_si256(
        q_out, _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
  }
}

}  // namespace larder::simd::avx2
