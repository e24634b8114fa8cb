#include "tensor/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "tensor/half.h"
#include "tensor/quant_blocks.h"

namespace larder {
namespace {

template <class Block, std::size_t n_elems>
void decode_blocks(const std::byte* in, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; i += n_elems, in += sizeof(Block)) {
    Block block;
    std::memcpy(&block, in, sizeof block);
    decode_block(block, out + i);
  }
}

template <std::uint16_t (*to_half)(float)>
void encode_halves(const float* in, std::size_t n, std::byte* out) {
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint16_t h = to_half(in[i]);
    std::memcpy(out + 2 * i, &h, sizeof h);
  }
}

template <float (*from_half)(std::uint16_t)>
void decode_halves(const std::byte* in, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; ++i) {
    std::uint16_t h = 0;
    std::memcpy(&h, in + 2 * i, sizeof h);
    out[i] = from_half(h);
  }
}

/// What a block format stores for values it cannot represent: nothing for NaN, the largest scale an
/// f16 can hold for what is beyond it.
float storable(float x) {
  constexpr float kLargest = 65504.0F;  // largest finite f16
  if (std::isnan(x)) return 0;
  return std::clamp(x, -kLargest, kLargest);
}

template <class Block, std::size_t n_elems>
void encode_blocks(const float* in, std::size_t n, std::byte* out, const float* importance) {
  std::array<float, n_elems> x;
  std::array<float, n_elems> weight;
  weight.fill(1);
  for (std::size_t i = 0; i < n; i += n_elems, out += sizeof(Block)) {
    for (std::size_t j = 0; j < n_elems; ++j) x[j] = storable(in[i + j]);
    if (importance != nullptr) {
      for (std::size_t j = 0; j < n_elems; ++j) {
        const float w = importance[i + j];
        weight[j] = w > 0 ? std::min(w, 1e9F) : 0;  // NaN and negative weights count for nothing
      }
    }
    Block block;
    encode_block(x.data(), weight.data(), block);
    std::memcpy(out, &block, sizeof block);
  }
}

}  // namespace

void decode_row(DType dtype, const std::byte* in, std::size_t n, float* out) {
  LARDER_CHECK(n % dtype_info(dtype).block_elems == 0);
  switch (dtype) {
    case DType::f32:
      if (n != 0) std::memcpy(out, in, n * sizeof(float));
      return;
    case DType::f16:
      return decode_halves<f16_to_f32>(in, n, out);
    case DType::bf16:
      return decode_halves<bf16_to_f32>(in, n, out);
    case DType::q8_0:
      return decode_blocks<BlockQ8_0, kSmallBlock>(in, n, out);
    case DType::q4_0:
      return decode_blocks<BlockQ4_0, kSmallBlock>(in, n, out);
    case DType::q4_1:
      return decode_blocks<BlockQ4_1, kSmallBlock>(in, n, out);
    case DType::q5_0:
      return decode_blocks<BlockQ5_0, kSmallBlock>(in, n, out);
    case DType::q5_1:
      return decode_blocks<BlockQ5_1, kSmallBlock>(in, n, out);
    case DType::q4_k:
      return decode_blocks<BlockQ4K, kSuperBlock>(in, n, out);
    case DType::q5_k:
      return decode_blocks<BlockQ5K, kSuperBlock>(in, n, out);
    case DType::q6_k:
      return decode_blocks<BlockQ6K, kSuperBlock>(in, n, out);
  }
}

void encode_row(DType dtype, const float* in, std::size_t n, std::byte* out,
                const float* importance) {
  LARDER_CHECK(n % dtype_info(dtype).block_elems == 0);
  switch (dtype) {
    case DType::f32:
      if (n != 0) std::memcpy(out, in, n * sizeof(float));
      return;
    case DType::f16:
      return encode_halves<f32_to_f16>(in, n, out);
    case DType::bf16:
      return encode_halves<f32_to_bf16>(in, n, out);
    case DType::q8_0:
      return encode_blocks<BlockQ8_0, kSmallBlock>(in, n, out, importance);
    case DType::q4_0:
      return encode_blocks<BlockQ4_0, kSmallBlock>(in, n, out, importance);
    case DType::q4_1:
      return encode_blocks<BlockQ4_1, kSmallBlock>(in, n, out, importance);
    case DType::q5_0:
      return encode_blocks<BlockQ5_0, kSmallBlock>(in, n, out, importance);
    case DType::q5_1:
      return encode_blocks<BlockQ5_1, kSmallBlock>(in, n, out, importance);
    case DType::q4_k:
      return encode_blocks<BlockQ4K, kSuperBlock>(in, n, out, importance);
    case DType::q5_k:
      return encode_blocks<BlockQ5K, kSuperBlock>(in, n, out, importance);
    case DType::q6_k:
      return encode_blocks<BlockQ6K, kSuperBlock>(in, n, out, importance);
  }
}

}  // namespace larder
