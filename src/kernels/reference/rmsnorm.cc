#include "kernels/reference/rmsnorm.h"

#include <cmath>

namespace larder::reference {

void rmsnorm(const float* x, const float* weight, float eps, std::size_t n, float* out) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += double{x[i]} * double{x[i]};
  const double inverse = 1.0 / std::sqrt(sum / static_cast<double>(n) + double{eps});
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(x[i] * inverse * weight[i]);
}

}  // namespace larder::reference
