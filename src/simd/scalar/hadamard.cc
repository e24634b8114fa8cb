#include "simd/scalar/hadamard.h"

#include <cmath>

namespace larder::simd::scalar {

void hadamard(float* rows, std::size_t n_rows, std::size_t head_dim) {
  const std::size_t size = head_dim & (~head_dim + 1);
  const float norm = 1.0F / std::sqrt(static_cast<float>(size));
  const std::size_t n = n_rows * head_dim;
  for (std::size_t half = 1; half < size; half *= 2) {
    for (std::size_t i = 0; i < n; i += 2 * half) {
      float* low = rows + i;
      float* high = low + half;
      for (std::size_t j = 0; j < half; ++j) {
        const float sum = low[j] + high[j], difference = low[j] - high[j];
        low[j] = sum;
        high[j] = difference;
      }
    }
  }
  for (std::size_t i = 0; i < n; ++i) rows[i] *= norm;
}

}  // namespace larder::simd::scalar
