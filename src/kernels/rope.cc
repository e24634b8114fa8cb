#include "kernels/rope.h"

#include <cmath>

#include "base/check.h"

namespace larder {
namespace {

/// Channels i and i + n_half of one head. `lower` and `upper` do not overlap, which lets the
/// compiler use vectors.
void rotate_halves(const float* cos, const float* sin, std::size_t n_half, float* __restrict lower,
                   float* __restrict upper) {
  for (std::size_t i = 0; i < n_half; ++i) {
    const float a = lower[i], b = upper[i];
    lower[i] = a * cos[i] - b * sin[i];
    upper[i] = b * cos[i] + a * sin[i];
  }
}

void rotate_neighbours(const float* cos, const float* sin, std::size_t n_half, float* x) {
  for (std::size_t i = 0; i < n_half; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

}  // namespace

void rope_angles(const RopeTable& table, std::span<const std::uint32_t> positions,
                 std::span<float> cos, std::span<float> sin) {
  const std::size_t n_half = table.inv_freq.size();
  LARDER_CHECK(cos.size() >= positions.size() * n_half && sin.size() >= positions.size() * n_half);
  for (std::size_t row = 0; row < positions.size(); ++row) {
    for (std::size_t i = 0; i < n_half; ++i) {
      // In double: a float product is off by 0.002 radians at position 32768.
      const double angle = static_cast<double>(positions[row]) * table.inv_freq[i];
      cos[row * n_half + i] = static_cast<float>(std::cos(angle) * table.amplitude);
      sin[row * n_half + i] = static_cast<float>(std::sin(angle) * table.amplitude);
    }
  }
}

void rope_rotate(const RopeTable& table, std::span<const float> cos, std::span<const float> sin,
                 float* x, std::size_t n_rows, std::size_t ld, std::uint32_t n_heads,
                 std::uint32_t head_dim) {
  const std::size_t n_half = table.inv_freq.size();
  LARDER_CHECK(2 * n_half <= head_dim && ld >= std::size_t{n_heads} * head_dim);
  LARDER_CHECK(cos.size() >= n_rows * n_half && sin.size() >= n_rows * n_half);
  for (std::size_t row = 0; row < n_rows; ++row) {
    const float* c = cos.data() + row * n_half;
    const float* s = sin.data() + row * n_half;
    for (std::uint32_t head = 0; head < n_heads; ++head) {
      float* v = x + row * ld + std::size_t{head} * head_dim;
      if (table.adjacent) {
        rotate_neighbours(c, s, n_half, v);
      } else {
        rotate_halves(c, s, n_half, v, v + n_half);
      }
    }
  }
}

}  // namespace larder
