#include "simd/scalar/ggml_rows.h"

#include <array>
#include <cstring>

#include "tensor/half.h"
#include "tensor/quantize.h"

namespace larder::simd::scalar {
namespace {

constexpr std::size_t kLanes = 16;

// Where an element stands in a bf16 part (codec/kv_codec.h), in values.
std::size_t at_k(std::size_t token, std::size_t channel, BlockShape shape) {
  const std::size_t plane = token / kLanes * (shape.head_dim / 2) + channel / 2;
  return plane * 2 * kLanes + 2 * (token % kLanes) + channel % 2;
}
std::size_t at_v(std::size_t token, std::size_t channel, BlockShape shape) {
  return (token / 2 * shape.head_dim + channel) * 2 + token % 2;
}

template <DType kType, auto kAt>
void decode(const std::byte* part, BlockShape shape, std::byte* bf16) {
  std::array<float, kMaxHeadDim> row{};
  const std::size_t n_bytes = row_bytes(kType, shape.head_dim);
  for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
    decode_row(kType, part + t * n_bytes, shape.head_dim, row.data());
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
      const std::uint16_t value = f32_to_bf16(row[c]);
      std::memcpy(bf16 + 2 * kAt(t, c, shape), &value, sizeof(value));
    }
  }
}

}  // namespace

void decode_q8_0_k(const std::byte* part, BlockShape shape, std::byte* bf16) {
  decode<DType::q8_0, at_k>(part, shape, bf16);
}
void decode_q8_0_v(const std::byte* part, BlockShape shape, std::byte* bf16) {
  decode<DType::q8_0, at_v>(part, shape, bf16);
}
void decode_q4_0_k(const std::byte* part, BlockShape shape, std::byte* bf16) {
  decode<DType::q4_0, at_k>(part, shape, bf16);
}
void decode_q4_0_v(const std::byte* part, BlockShape shape, std::byte* bf16) {
  decode<DType::q4_0, at_v>(part, shape, bf16);
}

}  // namespace larder::simd::scalar
