// Linear layers over weights in their file format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/compute.h"
#include "larder/result.h"
#include "tensor/buffer.h"
#include "tensor/dtype.h"

namespace larder {

/// y = W x (+ bias). Borrows the weight bytes (a mapped file) and the bias.
struct LinearWeight {
  DType dtype = DType::f32;
  std::uint32_t n_out = 0;
  std::uint32_t n_in = 0;
  const std::byte* data = nullptr;  // [n_out] rows of row_bytes(dtype, n_in)
  const float* bias = nullptr;      // [n_out] or absent
};

/// Errors: corrupt when `name` has no elements or its n_in is no whole number of the type's blocks
/// (32 or 256 elements). To be called once per weight before the first `linear`.
Result<void> check_linear(const LinearWeight& w, std::string_view name);

/// Quantised activations of one linear input, kept so that q, k and v (or gate and up) share the
/// work.
class LinearInput {
 public:
  LinearInput() = default;
  /// Room for `max_rows` rows of up to `max_cols` columns.
  LinearInput(std::size_t max_rows, std::size_t max_cols);

  /// Borrows x [n_rows, n_cols] until the next call. Quantises lazily: on the first `linear` that
  /// needs int8. REQUIRES: within the sizes given at construction.
  void set(const float* x, std::size_t n_rows, std::size_t n_cols);

 private:
  friend void linear(const Compute& compute, const LinearWeight& w, LinearInput& x,
                     std::span<float> out, std::size_t ld_out);
  /// The int8 form of the rows, made on the first call after `set`.
  const simd::Q8Rows& quantised(const Compute& compute);

  const float* x_ = nullptr;
  std::size_t n_rows_ = 0, n_cols_ = 0;
  bool quantised_ = false;
  simd::Q8Rows rows_{};        // into the buffers
  Buffer<std::int8_t> q_;      // [max_rows, max_cols]
  Buffer<float> scales_;       // [max_rows, max_cols / 32]
  Buffer<std::int32_t> sums_;  // [max_rows, max_cols / 16]
};

/// out[t * ld_out + r] = <row r of w, x row t> + bias[r]. Rows of `w` are split over the threads;
/// a result does not depend on the number of rows or threads. Allocates nothing.
/// Weights whose n_in is not a multiple of their block were refused by `check_linear`.
void linear(const Compute& compute, const LinearWeight& w, LinearInput& x, std::span<float> out,
            std::size_t ld_out);

}  // namespace larder
