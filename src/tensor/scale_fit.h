// The search behind the weight formats: which scale (and minimum) loses least when the codes are
// rounded. All errors are weighted sums of squares.
#pragma once

#include <cstddef>
#include <cstdint>

namespace larder {

/// Codes a format can store.
struct CodeRange {
  float lowest, highest;
};

/// Scale d for x ~ d * q. May be negative: the element farthest from zero takes the code of larger
/// magnitude. 0 when every weighted element is 0. `n` is a multiple of 8.
float fit_scale(const float* x, const float* weight, std::size_t n, CodeRange range) noexcept;

struct Affine {
  float d = 0, m = 0;
};

/// d >= 0 and m for x ~ d * q + m with q in [0, highest]. `m_at_most_0` is what the K formats need.
/// `n` is a multiple of 8.
Affine fit_affine(const float* x, const float* weight, std::size_t n, float highest,
                  bool m_at_most_0) noexcept;

/// Nearest codes of (x - m) / d, clamped to the range; lowest allowed code nearest to 0 when d is
/// 0. Returns the weighted squared error of d * q + m. `n` is a multiple of 8.
float round_codes(const float* x, const float* weight, std::size_t n, Affine a, CodeRange range,
                  std::int8_t* q) noexcept;
/// The error alone.
float rounding_error(const float* x, const float* weight, std::size_t n, Affine a,
                     CodeRange range) noexcept;

}  // namespace larder
