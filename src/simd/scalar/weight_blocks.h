// How one block of each quantised weight format becomes integers and the floats that scale them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tensor/half.h"

// A format is a struct of constants and one function. With G = group, value i of a block is
//   scales[i / G] * codes[i] - mins[i / 32]     (no `mins` term unless has_min)
namespace larder::simd::scalar {

inline float block_f16(const std::uint8_t* p) {
  std::uint16_t u = 0;
  std::memcpy(&u, p, sizeof u);
  return f16_to_f32(u);
}

/// f16 scale; 32 signed bytes.
struct Q8_0 {
  static constexpr std::size_t block_elems = 32, block_bytes = 34, group = 32;
  static constexpr bool has_min = false;
  static void unpack(const std::uint8_t* p, std::int8_t* codes, float* scales, float*) {
    scales[0] = block_f16(p);
    std::memcpy(codes, p + 2, 32);
  }
};

/// f16 scale, [f16 minimum], [32 fifth bits], 16 bytes with elements i (low nibble) and i + 16.
template <int kBits, bool kMin>
struct Nibbles32 {
  static constexpr std::size_t block_elems = 32, group = 32;
  static constexpr std::size_t head_bytes = kMin ? 4 : 2, high_bytes = kBits == 5 ? 4 : 0;
  static constexpr std::size_t block_bytes = head_bytes + high_bytes + 16;
  static constexpr bool has_min = kMin;
  static constexpr int offset = kMin ? 0 : 1 << (kBits - 1);

  static void unpack(const std::uint8_t* p, std::int8_t* codes, float* scales, float* mins) {
    scales[0] = block_f16(p);
    if constexpr (kMin) mins[0] = -block_f16(p + 2);
    std::uint32_t high = 0;
    if constexpr (kBits == 5) std::memcpy(&high, p + head_bytes, sizeof high);
    const std::uint8_t* nibbles = p + head_bytes + high_bytes;
    for (unsigned i = 0; i < 16; ++i) {
      const int low = (nibbles[i] & 15) | static_cast<int>(((high >> i) & 1U) << 4);
      const int up = (nibbles[i] >> 4) | static_cast<int>(((high >> (i + 16)) & 1U) << 4);
      codes[i] = static_cast<std::int8_t>(low - offset);
      codes[i + 16] = static_cast<std::int8_t>(up - offset);
    }
  }
};
using Q4_0 = Nibbles32<4, false>;
using Q4_1 = Nibbles32<4, true>;
using Q5_0 = Nibbles32<5, false>;
using Q5_1 = Nibbles32<5, true>;

/// 256 elements: f16 scale of scales, f16 scale of minima, 12 bytes of eight 6-bit scales and eight
/// 6-bit minima, [32 bytes of fifth bits], 128 bytes of nibbles: 32 bytes hold sub-block 2j (low)
/// and 2j + 1 (high).
template <int kBits>
struct NibblesK {
  static constexpr std::size_t block_elems = 256, group = 32;
  static constexpr std::size_t high_bytes = kBits == 5 ? 32 : 0;
  static constexpr std::size_t block_bytes = 16 + high_bytes + 128;
  static constexpr bool has_min = true;

  static void unpack(const std::uint8_t* p, std::int8_t* codes, float* scales, float* mins) {
    const float d = block_f16(p), d_min = block_f16(p + 2);
    const std::uint8_t* s = p + 4;
    for (int j = 0; j < 4; ++j) {
      scales[j] = d * static_cast<float>(s[j] & 63);
      mins[j] = d_min * static_cast<float>(s[j + 4] & 63);
      scales[j + 4] = d * static_cast<float>((s[j + 8] & 15) | ((s[j] >> 6) << 4));
      mins[j + 4] = d_min * static_cast<float>((s[j + 8] >> 4) | ((s[j + 4] >> 6) << 4));
    }
    const std::uint8_t* high = p + 16;
    const std::uint8_t* nibbles = p + 16 + high_bytes;
    for (int j = 0; j < 4; ++j) {
      for (int i = 0; i < 32; ++i) {
        int low = nibbles[j * 32 + i] & 15, up = nibbles[j * 32 + i] >> 4;
        if constexpr (kBits == 5) {
          low |= ((high[i] >> (2 * j)) & 1) << 4;
          up |= ((high[i] >> (2 * j + 1)) & 1) << 4;
        }
        codes[j * 64 + i] = static_cast<std::int8_t>(low);
        codes[j * 64 + 32 + i] = static_cast<std::int8_t>(up);
      }
    }
  }
};
using Q4_K = NibblesK<4>;
using Q5_K = NibblesK<5>;

/// 256 elements: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales of 16
/// elements each, f16 scale of scales. Each half of 128 elements stands in four runs of 32.
struct Q6_K {
  static constexpr std::size_t block_elems = 256, block_bytes = 210, group = 16;
  static constexpr bool has_min = false;

  static void unpack(const std::uint8_t* p, std::int8_t* codes, float* scales, float*) {
    const float d = block_f16(p + 208);
    for (int j = 0; j < 16; ++j) {
      scales[j] = d * static_cast<float>(static_cast<std::int8_t>(p[192 + j]));
    }
    for (int half = 0; half < 2; ++half) {
      const std::uint8_t* low = p + half * 64;
      const std::uint8_t* high = p + 128 + half * 32;
      std::int8_t* out = codes + half * 128;
      for (int i = 0; i < 32; ++i) {
        out[i] = static_cast<std::int8_t>(((low[i] & 15) | ((high[i] & 3) << 4)) - 32);
        out[i + 32] = static_cast<std::int8_t>(((low[i + 32] & 15) | ((high[i] & 12) << 2)) - 32);
        out[i + 64] = static_cast<std::int8_t>(((low[i] >> 4) | (high[i] & 48)) - 32);
        out[i + 96] = static_cast<std::int8_t>(((low[i + 32] >> 4) | ((high[i] & 192) >> 2)) - 32);
      }
    }
  }
};

}  // namespace larder::simd::scalar
