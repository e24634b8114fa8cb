#include "kernels/rmsnorm.h"

#include <cmath>

namespace larder {

void rmsnorm(const simd::Table& simd, const float* x, const float* weight, float eps, std::size_t n,
             float* out) {
  const float mean = simd.sum_squares(x, n) / static_cast<float>(n);
  const float inverse = 1.0F / std::sqrt(mean + eps);
  for (std::size_t i = 0; i < n; ++i) out[i] = x[i] * inverse * weight[i];
}

}  // namespace larder
