#include "simd/scalar/primitives.h"
#include "simd/scalar/weight_blocks.h"

namespace larder::simd::scalar {
namespace {

std::int32_t dot_codes(const std::int8_t* a, const std::int8_t* b, std::size_t n) {
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += std::int32_t{a[i]} * std::int32_t{b[i]};
  return sum;
}

/// Unpacks each block of weights once and uses it for every row of x.
template <class Format>
void linear_q8(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
               std::size_t ld_out) {
  constexpr std::size_t kElems = Format::block_elems, kGroup = Format::group;
  for (std::size_t r = 0; r < w.n_rows; ++r) {
    const auto* row = reinterpret_cast<const std::uint8_t*>(w.data + r * w.row_bytes);
    for (std::size_t t = 0; t < n_x; ++t) out[t * ld_out + r] = 0;
    for (std::size_t c = 0; c < w.n_cols; c += kElems, row += Format::block_bytes) {
      std::int8_t codes[kElems];
      float scales[kElems / kGroup], mins[kElems / 32];
      Format::unpack(row, codes, scales, mins);
      for (std::size_t t = 0; t < n_x; ++t) {
        const std::size_t at = t * x.n_cols + c;
        float sum = out[t * ld_out + r];
        for (std::size_t i = 0; i < kElems; i += kGroup) {
          const float x_scale = x.scales[(at + i) / 32];
          const auto dot = static_cast<float>(dot_codes(codes + i, x.q + at + i, kGroup));
          sum += dot * (scales[i / kGroup] * x_scale);
          if constexpr (Format::has_min) {
            const std::int32_t* x_sums = x.sums + (at + i) / 16;
            sum -= mins[i / 32] * (x_scale * static_cast<float>(x_sums[0] + x_sums[1]));
          }
        }
        out[t * ld_out + r] = sum;
      }
    }
  }
}

}  // namespace

void linear_q8_0(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Q8_0>(w, x, n_x, out, ld_out);
}

void linear_q4_0(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Q4_0>(w, x, n_x, out, ld_out);
}

void linear_q4_1(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Q4_1>(w, x, n_x, out, ld_out);
}

void linear_q5_0(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Q5_0>(w, x, n_x, out, ld_out);
}

void linear_q5_1(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Q5_1>(w, x, n_x, out, ld_out);
}

void linear_q4_k(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Q4_K>(w, x, n_x, out, ld_out);
}

void linear_q5_k(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Q5_K>(w, x, n_x, out, ld_out);
}

void linear_q6_k(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Q6_K>(w, x, n_x, out, ld_out);
}

}  // namespace larder::simd::scalar
