#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "simd/scalar/primitives.h"

namespace larder::simd::scalar {
namespace {

// Independent partial sums: shorter rounding chains, and something for the compiler to vectorise.
constexpr std::size_t kLanes = 8;

}  // namespace

float dot(const float* a, const float* b, std::size_t n) {
  float lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t j = 0; j < kLanes; ++j) lanes[j] += a[i + j] * b[i + j];
  }
  for (std::size_t j = 0; i < n; ++i, ++j) lanes[j] += a[i] * b[i];
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

void axpy(float a, const float* x, float* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] += a * x[i];
}

void scale(float a, float* x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) x[i] *= a;
}

void multiply(const float* x, float* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] *= x[i];
}

float sum_squares(const float* x, std::size_t n) { return dot(x, x, n); }

float max(const float* x, std::size_t n) {
  float m = x[0];
  for (std::size_t i = 1; i < n; ++i) m = std::max(m, x[i]);
  return m;
}

float exp_shift_sum(float* x, float shift, std::size_t n, Upcoming) {
  float sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = std::exp(x[i] - shift);
    sum += x[i];
  }
  return sum;
}

void silu_mul(const float* gate, const float* up, float* out, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) out[i] = gate[i] / (1.0F + std::exp(-gate[i])) * up[i];
}

void gelu_tanh_mul(const float* gate, const float* up, float* out, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const float g = gate[i];
    const float u = 0.7978845608F * (g + 0.044715F * g * g * g);  // sqrt(2 / pi)
    out[i] = 0.5F * g * (1.0F + std::tanh(u)) * up[i];
  }
}

void tanh_cap(float* x, float cap, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) x[i] = cap * std::tanh(x[i] / cap);
}

void quantize_q8(const float* x, std::size_t n_rows, const Q8Rows& rows) {
  // Rows follow each other without gaps in all three arrays, so they are one long run of blocks.
  const std::size_t n_blocks = n_rows * rows.n_cols / 32;
  for (std::size_t b = 0; b < n_blocks; ++b) {
    const float* in = x + b * 32;
    std::uint32_t max_bits = 0;  // the bits of |x| order like |x|, with infinity and NaN on top
    for (std::size_t i = 0; i < 32; ++i) {
      max_bits = std::max(max_bits, std::bit_cast<std::uint32_t>(in[i]) & 0x7fffffffU);
    }
    const float largest = std::bit_cast<float>(max_bits);
    const bool finite = max_bits < 0x7f800000U;
    const bool usable = finite && largest >= 1e-30F;  // below, 127 / largest would overflow
    const float inverse = usable ? 127.0F / largest : 0.0F;
    rows.scales[b] = usable   ? largest / 127.0F
                     : finite ? 0.0F
                              : std::numeric_limits<float>::quiet_NaN();
    for (std::size_t half = 0; half < 2; ++half) {
      std::int32_t sum = 0;
      for (std::size_t i = half * 16; i < half * 16 + 16; ++i) {
        const auto q = usable ? static_cast<std::int8_t>(std::lrint(in[i] * inverse)) : 0;
        rows.q[b * 32 + i] = static_cast<std::int8_t>(q);
        sum += q;
      }
      rows.sums[b * 2 + half] = sum;
    }
  }
}

}  // namespace larder::simd::scalar
