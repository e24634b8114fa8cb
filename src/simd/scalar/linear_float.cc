#include <bit>
#include <cstring>

#include "simd/scalar/primitives.h"
#include "tensor/half.h"

namespace larder::simd::scalar {
namespace {

constexpr std::size_t kChunk = 256;  // columns decoded at a time

float load_f32(const std::byte* p) {
  float f = 0;
  std::memcpy(&f, p, sizeof f);
  return f;
}
std::uint16_t load_u16(const std::byte* p) {
  std::uint16_t u = 0;
  std::memcpy(&u, p, sizeof u);
  return u;
}
float load_f16(const std::byte* p) { return f16_to_f32(load_u16(p)); }
float load_bf16(const std::byte* p) { return bf16_to_f32(load_u16(p)); }

/// Decodes each weight once per chunk and uses it for every row of x.
template <float (*kLoad)(const std::byte*), std::size_t kBytes>
void linear_float(const WeightRows& w, const float* x, std::size_t n_x, float* out,
                  std::size_t ld_out) {
  for (std::size_t r = 0; r < w.n_rows; ++r) {
    const std::byte* row = w.data + r * w.row_bytes;
    for (std::size_t t = 0; t < n_x; ++t) out[t * ld_out + r] = 0;
    for (std::size_t c = 0; c < w.n_cols; c += kChunk) {
      const std::size_t n = w.n_cols - c < kChunk ? w.n_cols - c : kChunk;
      float weights[kChunk];
      for (std::size_t i = 0; i < n; ++i) weights[i] = kLoad(row + (c + i) * kBytes);
      for (std::size_t t = 0; t < n_x; ++t) {
        out[t * ld_out + r] += dot(weights, x + t * w.n_cols + c, n);
      }
    }
  }
}

}  // namespace

void linear_f32(const WeightRows& w, const float* x, std::size_t n_x, float* out,
                std::size_t ld_out) {
  linear_float<load_f32, 4>(w, x, n_x, out, ld_out);
}

void linear_f16(const WeightRows& w, const float* x, std::size_t n_x, float* out,
                std::size_t ld_out) {
  linear_float<load_f16, 2>(w, x, n_x, out, ld_out);
}

void linear_bf16(const WeightRows& w, const float* x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_float<load_bf16, 2>(w, x, n_x, out, ld_out);
}

}  // namespace larder::simd::scalar
