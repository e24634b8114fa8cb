// Stages in the order of the scalar set, so that the sums are the same to the bit.
#include "simd/avx2/hadamard.h"

#include <immintrin.h>

#include "simd/scalar/hadamard.h"

namespace larder::simd::avx2 {
namespace {

constexpr std::size_t kLanes = 8;

// Lane j and lane j ^ half: the sum in the lower of the two, lower - upper in the upper.
template <int kHalf>
inline __m256 butterfly(__m256 x) {
  const auto sign = [](int j) { return (j & kHalf) != 0 ? -0.0F : 0.0F; };
  const __m256 flips =
      _mm256_setr_ps(sign(0), sign(1), sign(2), sign(3), sign(4), sign(5), sign(6), sign(7));
  const __m256i other = _mm256_setr_epi32(0 ^ kHalf, 1 ^ kHalf, 2 ^ kHalf, 3 ^ kHalf, 4 ^ kHalf,
                                          5 ^ kHalf, 6 ^ kHalf, 7 ^ kHalf);
  return _mm256_add_ps(_mm256_permutevar8x32_ps(x, other), _mm256_xor_ps(x, flips));
}

}  // namespace

void hadamard(float* rows, std::size_t n_rows, std::size_t head_dim) {
  const std::size_t size = head_dim & (~head_dim + 1);
  if (size < kLanes) return scalar::hadamard(rows, n_rows, head_dim);
  const __m256 norm = _mm256_set1_ps(1.0F / __builtin_sqrtf(static_cast<float>(size)));
  for (std::size_t begin = 0; begin < n_rows * head_dim; begin += size) {
    float* const x = rows + begin;
    for (std::size_t i = 0; i < size; i += kLanes) {
      const __m256 four = butterfly<2>(butterfly<1>(_mm256_loadu_ps(x + i)));
      _mm256_storeu_ps(x + i, butterfly<4>(four));
    }
    for (std::size_t half = kLanes; half < size; half *= 2) {
      for (std::size_t i = 0; i < size; i += 2 * half) {
        for (std::size_t j = i; j < i + half; j += kLanes) {
          const __m256 low = _mm256_loadu_ps(x + j), high = _mm256_loadu_ps(x + j + half);
          _mm256_storeu_ps(x + j, _mm256_add_ps(low, high));
          _mm256_storeu_ps(x + j + half, _mm256_sub_ps(low, high));
        }
      }
    }
    for (std::size_t i = 0; i < size; i += kLanes) {
      _mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), norm));
    }
  }
}

}  // namespace larder::simd::avx2
