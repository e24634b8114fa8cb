#include "model/io/convert_tensor.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/fail.h"
#include "tensor/quantize.h"

namespace larder {

/// Rows [first, first + n) of the result, and how rows are counted.
struct TensorConverter::Rows {
  std::uint64_t first, n, n_cols;
  std::uint64_t per_head;  // rows of a head; 0: no permutation
};

namespace {

constexpr std::uint64_t kChunkElems = 1ULL << 22;
constexpr float kLargestF16 = 65520.0F;  // half a step beyond the largest still rounds to it

bool permutes(TensorChange change) noexcept {
  return change == TensorChange::permute_q || change == TensorChange::permute_k;
}

/// The row of the source that becomes row `row`: within a head, pair i is (i, i + half) there and
/// (2i, 2i + 1) here.
std::uint64_t source_row(std::uint64_t row, std::uint64_t per_head) noexcept {
  if (per_head == 0) return row;
  const std::uint64_t head = row / per_head;
  const std::uint64_t at = row % per_head;
  return head * per_head + at % 2 * (per_head / 2) + at / 2;
}

/// False when `dtype` cannot hold one of the values.
bool holds(DType dtype, const std::vector<float>& row) noexcept {
  const float limit = dtype == DType::f16 ? kLargestF16 : std::numeric_limits<float>::infinity();
  return std::all_of(row.begin(), row.end(), [&](float x) { return std::abs(x) < limit; });
}

}  // namespace

Result<void> TensorConverter::convert_rows(const TensorView& in, const TensorTarget& target,
                                           const Rows& rows) {
  const std::size_t in_bytes = row_bytes(in.dtype, rows.n_cols);
  const std::size_t out_bytes = row_bytes(target.dtype, rows.n_cols);
  encoded_.resize(rows.n * out_bytes);
  decoded_.resize(pool_.n_threads());
  constexpr std::uint64_t kNone = std::numeric_limits<std::uint64_t>::max();
  std::atomic<std::uint64_t> bad = kNone;
  pool_.for_each(rows.n, [&](std::size_t i, unsigned thread) {
    const std::uint64_t from = source_row(rows.first + i, rows.per_head);
    if (in.dtype == target.dtype && dtype_info(in.dtype).block_elems > 1) {
      std::memcpy(encoded_.data() + i * out_bytes, in.bytes.data() + from * in_bytes, out_bytes);
      return;
    }
    auto& row = decoded_[thread];
    row.resize(rows.n_cols);
    decode_row(in.dtype, in.bytes.data() + from * in_bytes, rows.n_cols, row.data());
    if (target.change == TensorChange::add_one) {
      for (float& x : row) x += 1.0F;
    }
    if (!holds(target.dtype, row)) {
      bad = from;
      return;
    }
    encode_row(target.dtype, row.data(), rows.n_cols, encoded_.data() + i * out_bytes);
  });
  if (bad == kNone) return {};
  return fail(target.dtype == DType::f16 ? Errc::invalid_argument : Errc::corrupt,
              "{}: tensor '{}' holds a value in row {} that is not a number{}", origin_,
              target.name, bad.load(), target.dtype == DType::f16 ? " or beyond f16" : "");
}

Result<void> TensorConverter::convert(const TensorView& in, const TensorTarget& target,
                                      const Sink& sink) {
  // A bias is permuted as the rows of its matrix are: one element each.
  const bool by_element = in.n_dims == 1 && permutes(target.change);
  const std::uint64_t n_rows = by_element ? in.n_cols() : in.n_rows();
  Rows rows{0, 0, by_element ? 1 : in.n_cols(), 0};
  if (permutes(target.change)) {
    LARDER_CHECK(n_rows % (2ULL * target.n_heads) == 0);
    rows.per_head = n_rows / target.n_heads;
  }
  const std::uint64_t chunk = std::max<std::uint64_t>(1, kChunkElems / rows.n_cols);
  for (; rows.first < n_rows; rows.first += rows.n) {
    rows.n = std::min(chunk, n_rows - rows.first);
    LARDER_TRY(convert_rows(in, target, rows));
    LARDER_TRY(sink(encoded_));
  }
  return {};
}

}  // namespace larder
