#include <immintrin.h>

#include "simd/avx512/primitives.h"

namespace larder::simd::avx512 {

void quantize_q8(const float* x, std::size_t n_rows, const Q8Rows& rows) {
  // Rows follow each other without gaps in all three arrays, so they are one long run of blocks.
  const std::size_t n_blocks = n_rows * rows.n_cols / 32;
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  for (std::size_t b = 0; b < n_blocks; ++b) {
    const __m512 low = _mm512_loadu_ps(x + b * 32), high = _mm512_loadu_ps(x + b * 32 + 16);
    // The bits of |x| order like |x|, with infinity and NaN on top.
    const int max_bits = _mm512_reduce_max_epi32(
        _mm512_max_epi32(_mm512_and_epi32(_mm512_castps_si512(low), magnitude),
                         _mm512_and_epi32(_mm512_castps_si512(high), magnitude)));
    const float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(max_bits)));
    std::int32_t* sums = rows.sums + b * 2;
    if (!(largest >= 1e-30F && max_bits < 0x7f800000)) {  // 127 / largest overflows; inf; NaN
      rows.scales[b] = max_bits < 0x7f800000 ? 0.0F : __builtin_nanf("");
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(rows.q + b * 32), _mm256_setzero_si256());
      sums[0] = sums[1] = 0;
      continue;
    }
    rows.scales[b] = largest / 127.0F;
    const __m512 inverse = _mm512_set1_ps(127.0F / largest);
    const __m512i q_low = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
    const __m512i q_high = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
    auto* q = reinterpret_cast<__m128i*>(rows.q + b * 32);
    _mm_storeu_si128(q, _mm512_cvtepi32_epi8(q_low));
    _mm_storeu_si128(q + 1, _mm512_cvtepi32_epi8(q_high));
    sums[0] = _mm512_reduce_add_epi32(q_low);
    sums[1] = _mm512_reduce_add_epi32(q_high);
  }
}

}  // namespace larder::simd::avx512
