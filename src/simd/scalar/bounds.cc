#include "simd/scalar/bounds.h"

#include <cstring>

#include "tensor/half.h"

namespace larder::simd::scalar {

void bound_scores(const float* q, std::size_t n_q, const KvRun& bounds, std::size_t n, float* out) {
  for (std::size_t b = 0; b < bounds.n_blocks; ++b) {
    for (std::size_t i = 0; i < n_q; ++i) {
      float sum = 0;
      for (std::size_t c = 0; c < n; ++c) {
        std::uint16_t bound = 0;
        std::memcpy(&bound, bounds.parts[b] + c * sizeof bound, sizeof bound);
        sum += q[i * n + c] * bf16_to_f32(bound);
      }
      if (i == 0 || sum > out[b]) out[b] = sum;
    }
  }
}

}  // namespace larder::simd::scalar
