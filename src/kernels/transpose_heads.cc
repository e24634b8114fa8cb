#include "kernels/transpose_heads.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

constexpr float kLargestF16 = 65504.0F;

std::vector<float> decode(const LinearWeight& w) {
  std::vector<float> values(std::size_t{w.n_out} * w.n_in);
  for (std::size_t row = 0; row < w.n_out; ++row) {
    decode_row(w.dtype, w.data + row * row_bytes(w.dtype, w.n_in), w.n_in,
               values.data() + row * w.n_in);
  }
  return values;
}

DType type_for(std::span<const LinearWeight> heads) {
  const DType dtype = heads.front().dtype;
  if (dtype_info(dtype).block_elems == 1) return dtype;
  for (const LinearWeight& head : heads) {
    const auto values = decode(head);
    if (std::any_of(values.begin(), values.end(),
                    [](float x) { return !(std::abs(x) <= kLargestF16); })) {
      return DType::f32;
    }
  }
  return DType::f16;
}

}  // namespace

TransposedHeads transpose_heads(std::span<const LinearWeight> heads) {
  LARDER_CHECK(!heads.empty());
  const std::uint32_t n_out = heads.front().n_in, n_in = heads.front().n_out;
  const DType dtype = type_for(heads);
  const std::size_t row = row_bytes(dtype, n_in);
  TransposedHeads result;
  result.bytes = Buffer<std::byte>(heads.size() * n_out * row);
  std::vector<float> column(n_in);
  std::byte* out = result.bytes.data();
  for (const LinearWeight& head : heads) {
    LARDER_CHECK(head.n_in == n_out && head.n_out == n_in);
    result.heads.push_back({dtype, n_out, n_in, out, nullptr});
    const auto values = decode(head);
    for (std::size_t c = 0; c < n_out; ++c, out += row) {
      for (std::size_t r = 0; r < n_in; ++r) column[r] = values[r * n_out + c];
      encode_row(dtype, column.data(), n_in, out);
    }
  }
  return result;
}

}  // namespace larder
