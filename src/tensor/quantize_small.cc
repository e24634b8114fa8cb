// Encoders of the formats with 32 elements per block.
#include <array>

#include "tensor/half.h"
#include "tensor/quant_blocks.h"
#include "tensor/scale_fit.h"

namespace larder {
namespace {

using Codes = std::array<std::int8_t, kSmallBlock>;

/// The f16 to store; a scale beyond the format's range is the largest one instead of infinity.
std::uint16_t stored_half(float f) noexcept {
  constexpr std::uint16_t kLargest = 0x7bff;
  const std::uint16_t h = f32_to_f16(f);
  return (h & 0x7fffU) > kLargest ? static_cast<std::uint16_t>((h & 0x8000U) | kLargest) : h;
}

/// Fits the scale and rounds the codes against the stored, rounded one.
Codes symmetric_codes(const float* x, const float* weight, CodeRange range,
                      std::uint16_t& d) noexcept {
  Codes q;
  d = stored_half(fit_scale(x, weight, kSmallBlock, range));
  round_codes(x, weight, kSmallBlock, {f16_to_f32(d), 0}, range, q.data());
  return q;
}

Codes affine_codes(const float* x, const float* weight, float highest, std::uint16_t& d,
                   std::uint16_t& m) noexcept {
  Codes q;
  const Affine a = fit_affine(x, weight, kSmallBlock, highest, false);
  d = stored_half(a.d);
  m = stored_half(a.m);
  round_codes(x, weight, kSmallBlock, {f16_to_f32(d), f16_to_f32(m)}, {0, highest}, q.data());
  return q;
}

/// Codes shifted by `offset` to unsigned: low halves to nibbles, fifth bits (if any) to `high`.
void pack(const Codes& codes, int offset, std::uint8_t* nibbles, std::uint8_t* high) noexcept {
  for (std::size_t i = 0; i < 16; ++i) {
    const int low = codes[i] + offset, up = codes[i + 16] + offset;
    nibbles[i] = static_cast<std::uint8_t>((low & 15) | (up & 15) << 4);
  }
  if (high == nullptr) return;
  for (std::size_t byte = 0; byte < 4; ++byte) {
    unsigned bits = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      bits |= static_cast<unsigned>((codes[8 * byte + i] + offset) >> 4 & 1) << i;
    }
    high[byte] = static_cast<std::uint8_t>(bits);
  }
}

}  // namespace

void encode_block(const float* x, const float* weight, BlockQ8_0& block) noexcept {
  const Codes q = symmetric_codes(x, weight, {-127, 127}, block.d);
  for (std::size_t i = 0; i < kSmallBlock; ++i) block.q[i] = q[i];
}

void encode_block(const float* x, const float* weight, BlockQ4_0& block) noexcept {
  pack(symmetric_codes(x, weight, {-8, 7}, block.d), 8, block.q, nullptr);
}

void encode_block(const float* x, const float* weight, BlockQ4_1& block) noexcept {
  pack(affine_codes(x, weight, 15, block.d, block.m), 0, block.q, nullptr);
}

void encode_block(const float* x, const float* weight, BlockQ5_0& block) noexcept {
  pack(symmetric_codes(x, weight, {-16, 15}, block.d), 16, block.q, block.high);
}

void encode_block(const float* x, const float* weight, BlockQ5_1& block) noexcept {
  pack(affine_codes(x, weight, 31, block.d, block.m), 0, block.q, block.high);
}

}  // namespace larder
