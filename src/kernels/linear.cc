#include "kernels/linear.h"

#include <algorithm>

#include "base/check.h"
#include "base/fail.h"

namespace larder {
namespace {

// Rows of a task: whole tiles of the widest kernel; several tasks per thread so that a slow core
// gets fewer of them; no more bytes than stay in the second-level cache beside the activations.
constexpr std::size_t kTileRows = 32;
constexpr std::size_t kTasksPerThread = 4;
constexpr std::size_t kTaskBytes = 256 * 1024;
// Quantising fewer rows than this costs less than waking a thread.
constexpr std::size_t kRowsToShare = 8;

struct Split {
  std::size_t rows_per_task, n_tasks;
};

Split split_rows(std::size_t n_out, std::size_t row_bytes, unsigned n_threads) {
  const auto round_up = [](std::size_t n) { return (n + kTileRows - 1) / kTileRows * kTileRows; };
  std::size_t rows = round_up(n_out / (n_threads * kTasksPerThread) + 1);
  const std::size_t most = std::max(kTaskBytes / row_bytes / kTileRows, std::size_t{1}) * kTileRows;
  rows = std::min(rows, most);
  return {rows, (n_out + rows - 1) / rows};
}

simd::LinearF32Fn float_kernel(const simd::Table& simd, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return simd.linear_f32;
    case DType::f16:
      return simd.linear_f16;
    case DType::bf16:
      return simd.linear_bf16;
    default:
      return nullptr;
  }
}

simd::LinearQ8Fn int8_kernel(const simd::Table& simd, DType dtype) {
  switch (dtype) {
    case DType::q8_0:
      return simd.linear_q8_0;
    case DType::q4_0:
      return simd.linear_q4_0;
    case DType::q4_1:
      return simd.linear_q4_1;
    case DType::q5_0:
      return simd.linear_q5_0;
    case DType::q5_1:
      return simd.linear_q5_1;
    case DType::q4_k:
      return simd.linear_q4_k;
    case DType::q5_k:
      return simd.linear_q5_k;
    case DType::q6_k:
      return simd.linear_q6_k;
    default:
      return nullptr;
  }
}

void add_bias(const float* bias, std::size_t n_rows, std::size_t n_x, float* out,
              std::size_t ld_out) {
  for (std::size_t t = 0; t < n_x; ++t) {
    for (std::size_t r = 0; r < n_rows; ++r) out[t * ld_out + r] += bias[r];
  }
}

}  // namespace

Result<void> check_linear(const LinearWeight& w, std::string_view name) {
  if (w.n_in == 0 || w.n_out == 0) {
    return fail(Errc::corrupt, "tensor '{}': shape [{}, {}] has no elements", name, w.n_out,
                w.n_in);
  }
  const DTypeInfo& info = dtype_info(w.dtype);
  if (w.n_in % info.block_elems != 0) {
    return fail(Errc::corrupt, "tensor '{}': {} columns are not a multiple of the {} of a {} block",
                name, w.n_in, info.block_elems, info.name);
  }
  return {};
}

LinearInput::LinearInput(std::size_t max_rows, std::size_t max_cols)
    : q_(max_rows * ((max_cols + 31) / 32 * 32)),
      scales_(max_rows * ((max_cols + 31) / 32)),
      sums_(max_rows * ((max_cols + 31) / 32 * 2)) {}

void LinearInput::set(const float* x, std::size_t n_rows, std::size_t n_cols) {
  LARDER_CHECK(n_rows * n_cols <= q_.size());
  x_ = x;
  n_rows_ = n_rows;
  n_cols_ = n_cols;
  quantised_ = false;
}

const simd::Q8Rows& LinearInput::quantised(const Compute& compute) {
  if (quantised_) return rows_;
  LARDER_CHECK(n_cols_ % 32 == 0);
  rows_ = {q_.data(), scales_.data(), sums_.data(), n_cols_};
  const std::size_t step = n_rows_ < kRowsToShare ? n_rows_ : kRowsToShare;
  compute.pool.for_each(
      step == 0 ? 0 : (n_rows_ + step - 1) / step, [&](std::size_t task, unsigned) {
        const std::size_t first = task * step;
        const simd::Q8Rows part{rows_.q + first * n_cols_, rows_.scales + first * (n_cols_ / 32),
                                rows_.sums + first * (n_cols_ / 16), n_cols_};
        compute.simd.quantize_q8(x_ + first * n_cols_, std::min(step, n_rows_ - first), part);
      });
  quantised_ = true;
  return rows_;
}

void linear(const Compute& compute, const LinearWeight& w, LinearInput& x, std::span<float> out,
            std::size_t ld_out) {
  if (x.n_rows_ == 0) return;
  LARDER_CHECK(x.n_cols_ == w.n_in && ld_out >= w.n_out);
  LARDER_CHECK(out.size() >= (x.n_rows_ - 1) * ld_out + w.n_out);
  const simd::LinearF32Fn on_floats = float_kernel(compute.simd, w.dtype);
  const simd::LinearQ8Fn on_int8 = int8_kernel(compute.simd, w.dtype);
  if (on_int8 != nullptr) x.quantised(compute);

  const std::size_t bytes = row_bytes(w.dtype, w.n_in);
  const Split split = split_rows(w.n_out, bytes, compute.pool.n_threads());
  compute.pool.for_each(split.n_tasks, [&](std::size_t task, unsigned) {
    const std::size_t first = task * split.rows_per_task;
    const std::size_t n_rows = std::min(split.rows_per_task, w.n_out - first);
    const simd::WeightRows rows{w.data + first * bytes, bytes, n_rows, w.n_in};
    if (on_int8 != nullptr) {
      on_int8(rows, x.rows_, x.n_rows_, out.data() + first, ld_out);
    } else {
      on_floats(rows, x.x_, x.n_rows_, out.data() + first, ld_out);
    }
    if (w.bias != nullptr) {
      add_bias(w.bias + first, n_rows, x.n_rows_, out.data() + first, ld_out);
    }
  });
}

}  // namespace larder
