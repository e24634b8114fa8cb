#include "kernels/key_bounds.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

namespace larder {
namespace {

/// Cuts the number, which takes it towards zero, and goes one step on where that is the wrong way.
std::uint16_t round_outwards(float x, bool up) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const bool is_negative = (bits >> 31) != 0;
  const bool goes_on = (bits & 0xffffU) != 0 && is_negative != up;
  return static_cast<std::uint16_t>((bits >> 16) + (goes_on ? 1U : 0U));
}

}  // namespace

void write_key_bounds(const KvCodec& codec, const std::byte* k, BlockShape shape,
                      std::byte* bounds) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::array<float, simd::kMaxHeadDim> greatest, least, row;
  std::fill_n(greatest.begin(), shape.head_dim, -kInfinity);
  std::fill_n(least.begin(), shape.head_dim, kInfinity);
  for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
    codec.read_k(k, t, shape, row.data());
    for (std::size_t c = 0; c < shape.head_dim; ++c) {
      greatest[c] = row[c] > greatest[c] ? row[c] : greatest[c];
      least[c] = row[c] < least[c] ? row[c] : least[c];
    }
  }
  for (std::size_t c = 0; c < shape.head_dim; ++c) {
    const std::uint16_t high = round_outwards(greatest[c], true);
    const std::uint16_t low = round_outwards(least[c], false);
    std::memcpy(bounds + c * sizeof high, &high, sizeof high);
    std::memcpy(bounds + (shape.head_dim + c) * sizeof low, &low, sizeof low);
  }
}

void split_query(const float* q, std::size_t head_dim, float* out) {
  for (std::size_t c = 0; c < head_dim; ++c) {
    out[c] = q[c] > 0 ? q[c] : 0.0F;
    out[head_dim + c] = q[c] < 0 ? q[c] : 0.0F;
  }
}

}  // namespace larder
