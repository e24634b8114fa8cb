// Linear layers over weights in their file format or rearranged for streaming.
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

/// y = W x (+ bias). Borrows the weight bytes and the bias.
struct LinearWeight {
  DType dtype = DType::f32;
  std::uint32_t n_out = 0;
  std::uint32_t n_in = 0;
  const std::byte* data = nullptr;  // [n_out] rows of row_bytes(dtype, n_in), or panels
  const float* bias = nullptr;      // [n_out] or absent
  bool is_packed = false;           // panels of tensor/packed.h
};

/// Errors: corrupt when `name` has no elements or its n_in is no whole number of the type's blocks
/// (32 or 256 elements). To be called once per weight before the first `linear`.
Result<void> check_linear(const LinearWeight& w, std::string_view name);

/// Rearranges the rows into `out` [packed_bytes(dtype, n_out, n_in)], aligned to 64 bytes; a layer
/// with that as its data and `is_packed` is the same layer. REQUIRES: can_pack(w.dtype), not
/// packed.
void pack_linear(ThreadPool& pool, const LinearWeight& w, std::byte* out);

/// One layer of several over the same input, and where its results go:
/// out[t * ld_out + r] = <row r of w, x row t> + bias[r].
struct LinearJob {
  const LinearWeight* w;
  float* out;
  std::size_t ld_out;
};

/// One linear input with the rounded forms that kernels want, kept so that q, k and v (or gate and
/// up) share the work.
class LinearInput {
 public:
  LinearInput() = default;
  /// Room for `max_rows` rows of up to `max_cols` columns.
  LinearInput(std::size_t max_rows, std::size_t max_cols);

  /// Borrows x [n_rows, n_cols] until the next call. Rounds lazily: on the first `linear` that
  /// needs it. REQUIRES: within the sizes given at construction.
  void set(const float* x, std::size_t n_rows, std::size_t n_cols);

  /// Bytes of such an input.
  static std::size_t n_bytes(std::size_t max_rows, std::size_t max_cols) noexcept;

 private:
  friend void linear(const Compute& compute, std::span<const LinearJob> jobs, LinearInput& x);
  friend void linear(const Compute& compute, const LinearWeight& w, LinearInput& x,
                     std::span<float> out, std::size_t ld_out);
  friend class LinearTask;
  /// What kernels read.
  enum class Form : std::uint8_t { floats, q8_rows, q8_tiles, q8_matrix, bf16, bf16_matrix };
  Form form_for(const LinearWeight& w, const simd::Table& simd) const;
  void make(Form form, const Compute& compute);
  void make_rows(Form form, const Compute& compute, std::size_t first, std::size_t n);

  const float* x_ = nullptr;
  std::size_t n_rows_ = 0, n_cols_ = 0;
  bool has_q8_rows_ = false, has_q8_tiles_ = false, has_bf16_ = false;  // of either kind
  simd::Q8Rows q8_rows_{};                                              // into the buffers
  simd::Q8Tiles q8_tiles_{};
  simd::Q8Matrix q8_matrix_{};
  simd::Bf16Rows bf16_rows_{};
  simd::Bf16Matrix bf16_matrix_{};
  Buffer<std::int8_t> q_;       // [max_rows, max_cols]
  Buffer<float> scales_;        // [max_rows, max_cols / 32]
  Buffer<std::int32_t> sums_;   // [max_rows, max_cols / 16]
  Buffer<std::byte> tiles_;     // of either kind: one input needs one
  Buffer<std::uint16_t> bf16_;  // [max_rows, max_cols rounded up to 32], of either kind
};

/// All jobs in one go over the threads, which saves the waiting between them. A result does not
/// depend on the number of rows, jobs or threads. Allocates nothing.
/// Weights whose n_in is not a multiple of their block were refused by `check_linear`.
/// REQUIRES: every w->n_in is the input's n_cols.
void linear(const Compute& compute, std::span<const LinearJob> jobs, LinearInput& x);

/// A single one, `out` checked for room.
void linear(const Compute& compute, const LinearWeight& w, LinearInput& x, std::span<float> out,
            std::size_t ld_out);

}  // namespace larder
