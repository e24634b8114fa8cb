// A typed, shaped look at bytes that somebody else owns (usually a mapped model file).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace larder {

/// Row-major, outermost dimension first: a linear layer's weight is {n_out, n_in}.
/// Rows (the innermost dimension) are contiguous and `row_bytes(dtype, shape.back())` long.
struct TensorView {
  DType dtype = DType::f32;
  std::uint32_t n_dims = 0;
  std::array<std::uint64_t, 4> shape{};  // [n_dims]; outermost first; the rest is 0
  std::span<const std::byte> bytes;

  std::uint64_t n_cols() const noexcept { return n_dims == 0 ? 0 : shape[n_dims - 1]; }
  std::uint64_t n_rows() const noexcept {
    std::uint64_t rows = n_dims == 0 ? 0 : 1;
    for (std::uint32_t i = 0; i + 1 < n_dims; ++i) rows *= shape[i];
    return rows;
  }
};

}  // namespace larder
