#include "tensor/half.h"
#include "tensor/quant_blocks.h"

namespace larder {
namespace {

int fifth_bit(const std::uint8_t* high, std::size_t i) noexcept {
  return (high[i / 8] >> (i % 8) & 1) << 4;
}

}  // namespace

void decode_block(const BlockQ8_0& block, float* out) noexcept {
  const float d = f16_to_f32(block.d);
  for (std::size_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(block.q[i]);
}

void decode_block(const BlockQ4_0& block, float* out) noexcept {
  const float d = f16_to_f32(block.d);
  for (std::size_t i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((block.q[i] & 15) - 8);
    out[i + 16] = d * static_cast<float>((block.q[i] >> 4) - 8);
  }
}

void decode_block(const BlockQ4_1& block, float* out) noexcept {
  const float d = f16_to_f32(block.d), m = f16_to_f32(block.m);
  for (std::size_t i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(block.q[i] & 15) + m;
    out[i + 16] = d * static_cast<float>(block.q[i] >> 4) + m;
  }
}

void decode_block(const BlockQ5_0& block, float* out) noexcept {
  const float d = f16_to_f32(block.d);
  for (std::size_t i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(((block.q[i] & 15) | fifth_bit(block.high, i)) - 16);
    out[i + 16] = d * static_cast<float>(((block.q[i] >> 4) | fifth_bit(block.high, i + 16)) - 16);
  }
}

void decode_block(const BlockQ5_1& block, float* out) noexcept {
  const float d = f16_to_f32(block.d), m = f16_to_f32(block.m);
  for (std::size_t i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((block.q[i] & 15) | fifth_bit(block.high, i)) + m;
    out[i + 16] = d * static_cast<float>((block.q[i] >> 4) | fifth_bit(block.high, i + 16)) + m;
  }
}

void decode_block(const BlockQ4K& block, float* out) noexcept {
  const float d = f16_to_f32(block.d), m = f16_to_f32(block.m);
  for (std::size_t j = 0; j < 8; ++j) {
    const ScaleMin s = scale_min(block.scales, j);
    const float scale = d * static_cast<float>(s.scale), min = m * static_cast<float>(s.min);
    const std::uint8_t* q = block.q + 32 * (j / 2);
    for (std::size_t i = 0; i < 32; ++i) {
      out[32 * j + i] = scale * static_cast<float>(j % 2 == 0 ? q[i] & 15 : q[i] >> 4) - min;
    }
  }
}

void decode_block(const BlockQ5K& block, float* out) noexcept {
  const float d = f16_to_f32(block.d), m = f16_to_f32(block.m);
  for (std::size_t j = 0; j < 8; ++j) {
    const ScaleMin s = scale_min(block.scales, j);
    const float scale = d * static_cast<float>(s.scale), min = m * static_cast<float>(s.min);
    const std::uint8_t* q = block.q + 32 * (j / 2);
    for (std::size_t i = 0; i < 32; ++i) {
      const int low = j % 2 == 0 ? q[i] & 15 : q[i] >> 4;
      out[32 * j + i] = scale * static_cast<float>(low | (block.high[i] >> j & 1) << 4) - min;
    }
  }
}

void decode_block(const BlockQ6K& block, float* out) noexcept {
  const float d = f16_to_f32(block.d);
  for (std::size_t i = 0; i < kSuperBlock; ++i) {
    const std::size_t half = i / 128, e = i % 128;
    const int low = block.low[64 * half + e % 64] >> (e < 64 ? 0 : 4) & 15;
    const int high = block.high[32 * half + e % 32] >> (2 * (e / 32)) & 3;
    out[i] =
        d * static_cast<float>(block.scales[i / 16]) * static_cast<float>((low | high << 4) - 32);
  }
}

}  // namespace larder
