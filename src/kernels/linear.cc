#include "kernels/linear.h"

#include <algorithm>

#include "base/check.h"
#include "base/fail.h"
#include "tensor/packed.h"

namespace larder {
namespace {

// Work is dealt out in units of so many rows: whole tiles of every kernel, and panels.
constexpr std::size_t kUnitRows = 32;
static_assert(kUnitRows == kPanelRows);
// Few rows of x: reading weights binds, and a thread reads fastest in one long run. So each takes
// one run of this part of its share, and the rest is dealt out in small pieces to whoever is done.
constexpr std::size_t kFewX = 24;
constexpr double kRunShare = 0.85;
// Many rows: multiplying binds. Pieces are small enough to balance, large enough to use a chunk of
// x well while it is near.
constexpr std::size_t kUnitsOfManyX = 4;
// Rounding fewer rows than this costs less than waking a thread. Whole tiles.
constexpr std::size_t kRowsToShare = 2 * simd::kQ8TileRows;
constexpr std::size_t kMatrixRowsToShare = simd::kMatrixRows;
// From so many rows of x on matrix units pay: below, making signed bytes of the weights costs more
// than they save. A tile costs the same however many of its rows exist: three quarters of them
// shall.
constexpr std::size_t kMatrixX = 16;
// Of a group of 32 columns of one row in the tiles of simd.h.
constexpr std::size_t kMatrixGroupBytes = 32 + sizeof(float);
constexpr std::size_t kTileGroupBytes = std::max(simd::kQ8GroupBytes, kMatrixGroupBytes);

std::size_t n_blocks(std::size_t n_cols) { return (n_cols + 31) / 32; }

std::size_t whole_tiles(std::size_t n_rows) {
  return (n_rows + simd::kMatrixRows - 1) / simd::kMatrixRows * simd::kMatrixRows;
}

bool fills_tiles(std::size_t n_rows) {
  return n_rows >= kMatrixX && 4 * n_rows >= 3 * whole_tiles(n_rows);
}

std::size_t n_units(const LinearWeight& w) { return (w.n_out + kUnitRows - 1) / kUnitRows; }

/// How units become tasks: `n_threads` long ones, if any, then short ones.
struct Split {
  std::size_t n_long, long_units, short_units, n_tasks;

  Split(std::size_t n_all, std::size_t n_x, unsigned n_threads) {
    if (n_x <= kFewX && n_threads > 1) {
      long_units = static_cast<std::size_t>(kRunShare * static_cast<double>(n_all) / n_threads);
      n_long = long_units == 0 ? 0 : n_threads;
      short_units = std::max<std::size_t>((n_all - n_long * long_units) / (4 * n_threads), 1);
    } else {
      n_long = long_units = 0;
      short_units = n_threads == 1 ? n_all : kUnitsOfManyX;
    }
    const std::size_t n_rest = n_all - n_long * long_units;
    n_tasks = n_long + (n_rest + short_units - 1) / short_units;
  }
  std::size_t first(std::size_t task) const {
    return task < n_long ? task * long_units : n_long * long_units + (task - n_long) * short_units;
  }
};

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

void pack_linear(ThreadPool& pool, const LinearWeight& w, std::byte* out) {
  LARDER_CHECK(can_pack(w.dtype) && !w.is_packed);
  const std::size_t row = row_bytes(w.dtype, w.n_in), panel = panel_bytes(w.dtype, w.n_in);
  pool.for_each(n_units(w), [&](std::size_t i, unsigned) {
    const std::size_t first = i * kPanelRows;
    pack_panel(w.dtype, w.data + first * row, std::min(kPanelRows, w.n_out - first), w.n_in,
               out + i * panel);
  });
}

LinearInput::LinearInput(std::size_t max_rows, std::size_t max_cols)
    : q_(max_rows * n_blocks(max_cols) * 32),
      scales_(max_rows * n_blocks(max_cols)),
      sums_(max_rows * n_blocks(max_cols) * 2),
      tiles_(whole_tiles(max_rows) * n_blocks(max_cols) * kTileGroupBytes),
      bf16_(max_rows * n_blocks(max_cols) * 32) {}

std::size_t LinearInput::n_bytes(std::size_t max_rows, std::size_t max_cols) noexcept {
  constexpr std::size_t kBlockBytes = 32 + sizeof(float) + 2 * sizeof(std::int32_t) + 64;
  return (max_rows * kBlockBytes + whole_tiles(max_rows) * kTileGroupBytes) * n_blocks(max_cols);
}

void LinearInput::set(const float* x, std::size_t n_rows, std::size_t n_cols) {
  LARDER_CHECK(n_rows * n_cols <= q_.size() && n_rows * n_blocks(n_cols) * 32 <= bf16_.size());
  x_ = x;
  n_rows_ = n_rows;
  n_cols_ = n_cols;
  has_q8_rows_ = has_q8_tiles_ = has_bf16_ = false;
}

LinearInput::Form LinearInput::form_for(const LinearWeight& w, const simd::Table& simd) const {
  if (w.is_packed && w.dtype == DType::bf16) {
    return simd.tile_bf16_matrix != nullptr ? Form::bf16_matrix : Form::bf16;
  }
  if (w.is_packed) {
    const bool has_units = simd.tile_q8_matrix != nullptr;
    return has_units && fills_tiles(n_rows_) ? Form::q8_matrix : Form::q8_tiles;
  }
  return dtype_info(w.dtype).block_elems > 1 ? Form::q8_rows : Form::floats;
}

void LinearInput::make(Form form, const Compute& compute) {
  bool is_there = true;
  const bool is_bf16 = form == Form::bf16 || form == Form::bf16_matrix;
  const bool is_matrix = form == Form::q8_matrix || form == Form::bf16_matrix;
  bool& has = is_bf16                 ? has_bf16_
              : form == Form::q8_rows ? has_q8_rows_
              : form == Form::floats  ? is_there
                                      : has_q8_tiles_;
  if (has) return;
  has = true;
  LARDER_CHECK(is_bf16 || n_cols_ % 32 == 0);
  q8_rows_ = {q_.data(), scales_.data(), sums_.data(), n_cols_};
  q8_tiles_ = {tiles_.data(), n_cols_};
  // Scales stand behind the codes of all tiles.
  const std::size_t n_padded = whole_tiles(n_rows_) * n_cols_;
  LARDER_CHECK(form != Form::q8_matrix || n_padded / 32 * kMatrixGroupBytes <= tiles_.size());
  q8_matrix_ = {reinterpret_cast<std::int8_t*>(tiles_.data()),
                reinterpret_cast<float*>(tiles_.data() + n_padded), n_rows_, n_cols_};
  bf16_rows_ = {bf16_.data(), n_cols_ + n_cols_ % 2};
  bf16_matrix_ = {bf16_.data(), n_rows_, n_cols_};
  const std::size_t share = is_matrix ? kMatrixRowsToShare : kRowsToShare;
  compute.pool.for_each((n_rows_ + share - 1) / share, [&](std::size_t i, unsigned) {
    const std::size_t first = i * share;
    make_rows(form, compute, first, std::min(share, n_rows_ - first));
  });
}

/// REQUIRES: `first` begins a tile.
void LinearInput::make_rows(Form form, const Compute& compute, std::size_t first, std::size_t n) {
  const float* x = x_ + first * n_cols_;
  const std::size_t block = first * (n_cols_ / 32);
  if (form == Form::bf16) {
    const std::size_t stride = bf16_rows_.stride;
    compute.simd.round_bf16(x, n, n_cols_, {bf16_.data() + first * stride, stride});
    return;
  }
  if (form == Form::bf16_matrix) {
    compute.simd.tile_bf16_matrix(x, n, bf16_matrix_, first);
    return;
  }
  const simd::Q8Rows rows{q_.data() + block * 32, scales_.data() + block, sums_.data() + block * 2,
                          n_cols_};
  compute.simd.quantize_q8(x, n, rows);
  if (form == Form::q8_tiles) {
    simd::tile_q8(rows, n, {tiles_.data() + block * simd::kQ8GroupBytes, n_cols_});
  } else if (form == Form::q8_matrix) {
    compute.simd.tile_q8_matrix(rows, n, q8_matrix_, first);
  }
}

/// Units [first, last) of one layer.
class LinearTask {
 public:
  LinearTask(const Compute& compute, const LinearInput& x) : compute_(compute), x_(x) {}

  void run(const LinearJob& job, std::size_t first_unit, std::size_t last_unit) const {
    const LinearWeight& w = *job.w;
    const std::size_t first = first_unit * kUnitRows;
    const std::size_t n = std::min<std::size_t>(last_unit * kUnitRows, w.n_out) - first;
    float* out = job.out + first;
    if (w.is_packed) {
      multiply_packed(w, first_unit, n, out, job.ld_out);
    } else {
      const std::size_t bytes = row_bytes(w.dtype, w.n_in);
      const simd::WeightRows rows{w.data + first * bytes, bytes, n, w.n_in};
      if (const auto kernel = int8_kernel(compute_.simd, w.dtype)) {
        kernel(rows, x_.q8_rows_, x_.n_rows_, out, job.ld_out);
      } else {
        float_kernel(compute_.simd, w.dtype)(rows, x_.x_, x_.n_rows_, out, job.ld_out);
      }
    }
    if (w.bias != nullptr) add_bias(w.bias + first, n, x_.n_rows_, out, job.ld_out);
  }

 private:
  void multiply_packed(const LinearWeight& w, std::size_t panel, std::size_t n, float* out,
                       std::size_t ld_out) const {
    const PackedRows rows{w.data + panel * panel_bytes(w.dtype, w.n_in), n, w.n_in};
    const simd::Table& simd = compute_.simd;
    const LinearInput::Form form = x_.form_for(w, simd);
    if (form == LinearInput::Form::bf16_matrix) {
      simd.packed_bf16_matrix(rows, x_.bf16_matrix_, out, ld_out);
    } else if (form == LinearInput::Form::bf16) {
      simd.packed_bf16(rows, x_.bf16_rows_, x_.n_rows_, out, ld_out);
    } else if (form == LinearInput::Form::q8_matrix) {
      const auto kernel =
          w.dtype == DType::q8_0 ? simd.packed_q8_0_matrix : simd.packed_q4_0_matrix;
      kernel(rows, x_.q8_matrix_, out, ld_out);
    } else {
      const auto kernel = w.dtype == DType::q8_0 ? simd.packed_q8_0 : simd.packed_q4_0;
      kernel(rows, x_.q8_tiles_, x_.n_rows_, out, ld_out);
    }
  }

  const Compute& compute_;
  const LinearInput& x_;
};

void linear(const Compute& compute, std::span<const LinearJob> jobs, LinearInput& x) {
  if (x.n_rows_ == 0) return;
  std::size_t n_all = 0;
  for (const LinearJob& job : jobs) {
    LARDER_CHECK(x.n_cols_ == job.w->n_in && job.ld_out >= job.w->n_out);
    x.make(x.form_for(*job.w, compute.simd), compute);
    n_all += n_units(*job.w);
  }
  const Split split(n_all, x.n_rows_, compute.pool.n_threads());
  const LinearTask work(compute, x);
  compute.pool.for_each(split.n_tasks, [&](std::size_t task, unsigned) {
    std::size_t first = split.first(task);
    const std::size_t last = std::min(split.first(task + 1), n_all);
    std::size_t before = 0;  // units of the jobs that came before
    for (const LinearJob& job : jobs) {
      const std::size_t end = before + n_units(*job.w);
      if (first < end && first < last) {
        const std::size_t until = std::min(last, end);
        work.run(job, first - before, until - before);
        first = until;
      }
      before = end;
    }
  });
}

void linear(const Compute& compute, const LinearWeight& w, LinearInput& x, std::span<float> out,
            std::size_t ld_out) {
  if (x.n_rows_ == 0) return;
  LARDER_CHECK(out.size() >= (x.n_rows_ - 1) * ld_out + w.n_out);
  const LinearJob job{&w, out.data(), ld_out};
  linear(compute, std::span(&job, 1), x);
}

}  // namespace larder
