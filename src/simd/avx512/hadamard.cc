// Stages in the order of the scalar set, so that the sums are the same to the bit.
#include "simd/avx512/hadamard.h"

#include <immintrin.h>

#include <cstdint>

#include "simd/scalar/hadamard.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kLanes = 16;

// Lane j and lane j ^ half: the sum in the lower of the two, lower - upper in the upper.
template <int kHalf>
inline __m512 butterfly(__m512 x) {
  alignas(64) std::int32_t other[kLanes], signs[kLanes];
  for (int j = 0; j < 16; ++j) {
    other[j] = j ^ kHalf;
    signs[j] = (j & kHalf) != 0 ? INT32_MIN : 0;
  }
  const __m512 partner = _mm512_permutexvar_ps(_mm512_load_si512(other), x);
  const __m512i flipped = _mm512_xor_si512(_mm512_castps_si512(x), _mm512_load_si512(signs));
  return _mm512_add_ps(partner, _mm512_castsi512_ps(flipped));
}

}  // namespace

void hadamard(float* rows, std::size_t n_rows, std::size_t head_dim) {
  const std::size_t size = head_dim & (~head_dim + 1);
  if (size < kLanes) return scalar::hadamard(rows, n_rows, head_dim);
  const __m512 norm = _mm512_set1_ps(1.0F / __builtin_sqrtf(static_cast<float>(size)));
  for (std::size_t begin = 0; begin < n_rows * head_dim; begin += size) {
    float* const x = rows + begin;
    for (std::size_t i = 0; i < size; i += kLanes) {
      const __m512 four = butterfly<2>(butterfly<1>(_mm512_loadu_ps(x + i)));
      _mm512_storeu_ps(x + i, butterfly<8>(butterfly<4>(four)));
    }
    for (std::size_t half = kLanes; half < size; half *= 2) {
      for (std::size_t i = 0; i < size; i += 2 * half) {
        for (std::size_t j = i; j < i + half; j += kLanes) {
          const __m512 low = _mm512_loadu_ps(x + j), high = _mm512_loadu_ps(x + j + half);
          _mm512_storeu_ps(x + j, _mm512_add_ps(low, high));
          _mm512_storeu_ps(x + j + half, _mm512_sub_ps(low, high));
        }
      }
    }
    for (std::size_t i = 0; i < size; i += kLanes) {
      _mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_loadu_ps(x + i), norm));
    }
  }
}

}  // namespace larder::simd::avx512
