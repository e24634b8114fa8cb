// Byte layouts of the quantised blocks, as GGUF files hold them (little-endian). `d` and `m` are
// f16 bit patterns. Blocks stand at any address in a file: copy one out before looking into it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace larder {

inline constexpr std::size_t kSmallBlock = 32;   // elements of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0
inline constexpr std::size_t kSuperBlock = 256;  // elements of Q4_K, Q5_K, Q6_K

/// x = d * q
struct BlockQ8_0 {
  std::uint16_t d;
  std::int8_t q[32];
};
/// x = d * (q - 8); byte i holds element i below and element i + 16 above.
struct BlockQ4_0 {
  std::uint16_t d;
  std::uint8_t q[16];
};
/// x = d * q + m
struct BlockQ4_1 {
  std::uint16_t d, m;
  std::uint8_t q[16];
};
/// x = d * (q - 16); bit i of the 32-bit little-endian `high` is the fifth bit of element i.
struct BlockQ5_0 {
  std::uint16_t d;
  std::uint8_t high[4];
  std::uint8_t q[16];
};
/// x = d * q + m
struct BlockQ5_1 {
  std::uint16_t d, m;
  std::uint8_t high[4];
  std::uint8_t q[16];
};
/// x = (d * scale_j) * q - m * min_j, j = element / 32. `scales` packs eight 6-bit scales and eight
/// 6-bit mins (see scale_min). Bytes of `q` come in four runs of 32: run p holds sub-block 2p in
/// the low and 2p + 1 in the high half.
struct BlockQ4K {
  std::uint16_t d, m;
  std::uint8_t scales[12];
  std::uint8_t q[128];
};
/// As Q4_K; bit j of `high[i]` is the fifth bit of element i of sub-block j.
struct BlockQ5K {
  std::uint16_t d, m;
  std::uint8_t scales[12];
  std::uint8_t high[32];
  std::uint8_t q[128];
};
/// x = (d * scale_j) * (q - 32), j = element / 16. Each half of 128 elements has 64 bytes of `low`
/// (element e and e + 64 share byte e) and 32 bytes of `high` (elements e, e + 32, e + 64, e + 96
/// share byte e, two bits each).
struct BlockQ6K {
  std::uint8_t low[128];
  std::uint8_t high[64];
  std::int8_t scales[16];
  std::uint16_t d;
};
static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24);
static_assert(sizeof(BlockQ4K) == 144 && sizeof(BlockQ5K) == 176 && sizeof(BlockQ6K) == 210);

struct ScaleMin {
  std::uint8_t scale, min;  // 6 bits each
};

/// Sub-block j < 8 of the 12 packed bytes: the first four sub-blocks lie in the low six bits of
/// bytes 0..3 (scales) and 4..7 (mins); the others have their low four bits in bytes 8..11 and
/// their upper two in the spare bits of bytes 0..7.
constexpr ScaleMin scale_min(const std::uint8_t* packed, std::size_t j) noexcept {
  if (j < 4) {
    return {static_cast<std::uint8_t>(packed[j] & 63),
            static_cast<std::uint8_t>(packed[j + 4] & 63)};
  }
  return {static_cast<std::uint8_t>((packed[j + 4] & 15) | (packed[j - 4] >> 6 << 4)),
          static_cast<std::uint8_t>((packed[j + 4] >> 4) | (packed[j] >> 6 << 4))};
}

/// One block to its 32 or 256 floats.
void decode_block(const BlockQ8_0& block, float* out) noexcept;
void decode_block(const BlockQ4_0& block, float* out) noexcept;
void decode_block(const BlockQ4_1& block, float* out) noexcept;
void decode_block(const BlockQ5_0& block, float* out) noexcept;
void decode_block(const BlockQ5_1& block, float* out) noexcept;
void decode_block(const BlockQ4K& block, float* out) noexcept;
void decode_block(const BlockQ5K& block, float* out) noexcept;
void decode_block(const BlockQ6K& block, float* out) noexcept;

/// 32 or 256 finite floats to one block; `weight` of each element's squared error.
void encode_block(const float* x, const float* weight, BlockQ8_0& block) noexcept;
void encode_block(const float* x, const float* weight, BlockQ4_0& block) noexcept;
void encode_block(const float* x, const float* weight, BlockQ4_1& block) noexcept;
void encode_block(const float* x, const float* weight, BlockQ5_0& block) noexcept;
void encode_block(const float* x, const float* weight, BlockQ5_1& block) noexcept;
void encode_block(const float* x, const float* weight, BlockQ4K& block) noexcept;
void encode_block(const float* x, const float* weight, BlockQ5K& block) noexcept;
void encode_block(const float* x, const float* weight, BlockQ6K& block) noexcept;

}  // namespace larder
