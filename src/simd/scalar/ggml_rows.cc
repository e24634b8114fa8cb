#include "simd/scalar/ggml_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "tensor/half.h"
#include "tensor/quant_blocks.h"
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

constexpr float kMaxElement = 65504.0F;

// To the nearest integer, halves away from zero; for small magnitudes.
int rounded(float x) {
  const float size = std::abs(x);
  const int whole = static_cast<int>(size);
  const int n = whole + (size - static_cast<float>(whole) >= 0.5F ? 1 : 0);
  return x < 0 ? -n : n;
}

// Zero of what has no finite inverse.
float inverse(float scale) {
  return std::abs(scale) >= std::numeric_limits<float>::min() ? 1 / scale : 0.0F;
}

// Codes are found with the scale before it is rounded to f16, as ggml's are.
void encode_block(const float* x, BlockQ8_0& block) {
  float largest = 0;
  for (std::size_t i = 0; i < kSmallBlock; ++i) largest = std::max(largest, std::abs(x[i]));
  const float scale = largest / 127, factor = inverse(scale);
  block.d = f32_to_f16(scale);
  for (std::size_t i = 0; i < kSmallBlock; ++i) {
    block.q[i] = static_cast<std::int8_t>(std::clamp(rounded(x[i] * factor), -127, 127));
  }
}

// What is largest has code 0, that is -8.
void encode_block(const float* x, BlockQ4_0& block) {
  const float largest = *std::max_element(
      x, x + kSmallBlock, [](float a, float b) { return std::abs(a) < std::abs(b); });
  const float scale = largest / -8, factor = inverse(scale);
  block.d = f32_to_f16(scale);
  const auto code = [&](std::size_t i) {
    return static_cast<unsigned>(std::clamp(static_cast<int>(x[i] * factor + 8.5F), 0, 15));
  };
  for (std::size_t i = 0; i < kSmallBlock / 2; ++i) {
    block.q[i] = static_cast<std::uint8_t>(code(i) | code(i + kSmallBlock / 2) << 4);
  }
}

template <class Block, auto kAt>
void encode(const std::byte* bf16, BlockShape shape, std::byte* part) {
  std::array<float, kMaxHeadDim> row{};
  auto* blocks = reinterpret_cast<Block*>(part);
  for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
      std::uint16_t value;
      std::memcpy(&value, bf16 + 2 * kAt(t, c, shape), sizeof(value));
      const float x = bf16_to_f32(value);
      row[c] = std::isnan(x) ? 0.0F : std::clamp(x, -kMaxElement, kMaxElement);
    }
    for (std::uint32_t c = 0; c < shape.head_dim; c += kSmallBlock) {
      encode_block(row.data() + c, *blocks++);
    }
  }
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

void encode_q8_0_k(const std::byte* bf16, BlockShape shape, std::byte* part) {
  encode<BlockQ8_0, at_k>(bf16, shape, part);
}
void encode_q8_0_v(const std::byte* bf16, BlockShape shape, std::byte* part) {
  encode<BlockQ8_0, at_v>(bf16, shape, part);
}
void encode_q4_0_k(const std::byte* bf16, BlockShape shape, std::byte* part) {
  encode<BlockQ4_0, at_k>(bf16, shape, part);
}
void encode_q4_0_v(const std::byte* bf16, BlockShape shape, std::byte* part) {
  encode<BlockQ4_0, at_v>(bf16, shape, part);
}

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
