// Parts of ggml blocks to integer parts: K eight rows of a tile at a time, V two rows.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "simd/avx2/integer_rows.h"
#include "simd/ggml_scales.h"
#include "simd/integer_rows.h"
#include "simd/unroll.h"

namespace larder::simd::avx2 {
namespace {

constexpr std::size_t kTileTokens = 16;

inline __m128i load16(const std::byte* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
inline __m256i load_two(const std::byte* low, const std::byte* high) {
  return _mm256_set_m128i(load16(high), load16(low));
}
inline void store(std::byte* to, __m256i x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x);
}

// Of each 128-bit lane i of rows[j], dword c goes to lane i of out[c], as its dword j.
[[gnu::always_inline]] inline void transpose_lanes(const __m256i (&rows)[4], __m256i (&out)[4]) {
  const __m256i a = _mm256_unpacklo_epi32(rows[0], rows[1]);
  const __m256i b = _mm256_unpackhi_epi32(rows[0], rows[1]);
  const __m256i c = _mm256_unpacklo_epi32(rows[2], rows[3]);
  const __m256i d = _mm256_unpackhi_epi32(rows[2], rows[3]);
  out[0] = _mm256_unpacklo_epi64(a, c);
  out[1] = _mm256_unpackhi_epi64(a, c);
  out[2] = _mm256_unpacklo_epi64(b, d);
  out[3] = _mm256_unpackhi_epi64(b, d);
}

// The planes of eight rows, each half a plane of the part; and pairs of channels 16 h to 16 h + 15
// of two rows, those of unpacklo first.
struct Q8 {
  static constexpr std::size_t kBytes = 34;
  static void planes(const std::byte* blocks, std::size_t row_bytes, std::byte* to) {
    for (std::size_t h = 0; h < 2; ++h) {  // 16 channels
      __m256i rows[4], dwords[4];
      LARDER_UNROLL
      for (std::size_t r = 0; r < 4; ++r) {
        const std::byte* const at = blocks + r * row_bytes + 2 + 16 * h;
        rows[r] = load_two(at, at + 4 * row_bytes);
      }
      transpose_lanes(rows, dwords);
      LARDER_UNROLL
      for (std::size_t j = 0; j < 4; ++j) {
        std::byte* const planes = to + (8 * h + 2 * j) * 64;
        store(planes, _mm256_srai_epi16(_mm256_slli_epi16(dwords[j], 8), 8));
        store(planes + 64, _mm256_srai_epi16(dwords[j], 8));
      }
    }
  }
  static __m256i words(const std::byte* block, std::size_t h) {
    return _mm256_cvtepi8_epi16(load16(block + 2 + 16 * h));
  }
};
struct Q4 {
  static constexpr std::size_t kBytes = 18;
  static void planes(const std::byte* blocks, std::size_t row_bytes, std::byte* to) {
    const __m256i nibble = _mm256_set1_epi16(15), bias = _mm256_set1_epi16(8);
    __m256i rows[4], dwords[4];
    LARDER_UNROLL
    for (std::size_t r = 0; r < 4; ++r) {
      const std::byte* const at = blocks + r * row_bytes + 2;
      rows[r] = load_two(at, at + 4 * row_bytes);
    }
    transpose_lanes(rows, dwords);
    LARDER_UNROLL
    for (std::size_t j = 0; j < 4; ++j) {
      const auto put = [&](std::size_t plane, __m256i shifted) {
        store(to + plane * 64, _mm256_sub_epi16(_mm256_and_si256(shifted, nibble), bias));
      };
      put(2 * j, dwords[j]);
      put(2 * j + 1, _mm256_srli_epi16(dwords[j], 8));
      put(8 + 2 * j, _mm256_srli_epi16(dwords[j], 4));
      put(8 + 2 * j + 1, _mm256_srli_epi16(dwords[j], 12));
    }
  }
  static __m256i words(const std::byte* block, std::size_t h) {
    const __m256i both = _mm256_cvtepu8_epi16(load16(block + 2));
    const __m256i codes =
        h == 0 ? _mm256_and_si256(both, _mm256_set1_epi16(15)) : _mm256_srli_epi16(both, 4);
    return _mm256_sub_epi16(codes, _mm256_set1_epi16(8));
  }
};

template <class Block>
void unpack_k(const std::byte* part, BlockShape shape, std::byte* integers) {
  const std::size_t n_groups = shape.head_dim / kGroupChannels;
  const std::size_t row_bytes = n_groups * Block::kBytes;
  std::byte* to = integers;
  for (std::size_t tile = 0; tile < shape.block_tokens; tile += kTileTokens) {
    for (std::size_t g = 0; g < n_groups; ++g, to += kTileTokens * 64) {
      const std::byte* const blocks = part + tile * row_bytes + g * Block::kBytes;
      Block::planes(blocks, row_bytes, to);
      Block::planes(blocks + 8 * row_bytes, row_bytes, to + 32);
    }
  }
  unpack_scales(part, Block::kBytes, shape, integers + integer_bytes(shape));
}

template <class Block>
void unpack_v(const std::byte* part, BlockShape shape, std::byte* integers) {
  const std::size_t n_groups = shape.head_dim / kGroupChannels;
  const std::size_t row_bytes = n_groups * Block::kBytes;
  std::byte* to = integers;
  for (std::size_t t = 0; t < shape.block_tokens; t += 2) {
    for (std::size_t g = 0; g < n_groups; ++g) {
      const std::byte* const block = part + t * row_bytes + g * Block::kBytes;
      for (std::size_t h = 0; h < 2; ++h, to += 64) {
        const __m256i even = Block::words(block, h), odd = Block::words(block + row_bytes, h);
        const __m256i low = _mm256_unpacklo_epi16(even, odd);  // channels 0 to 3, 8 to 11
        const __m256i high = _mm256_unpackhi_epi16(even, odd);
        store(to, _mm256_permute2x128_si256(low, high, 0x20));
        store(to + 32, _mm256_permute2x128_si256(low, high, 0x31));
      }
    }
  }
  unpack_scales(part, Block::kBytes, shape, integers + integer_bytes(shape));
}

}  // namespace

void unpack_q8_0_k(const std::byte* part, BlockShape shape, std::byte* integers) {
  unpack_k<Q8>(part, shape, integers);
}
void unpack_q8_0_v(const std::byte* part, BlockShape shape, std::byte* integers) {
  unpack_v<Q8>(part, shape, integers);
}
void unpack_q4_0_k(const std::byte* part, BlockShape shape, std::byte* integers) {
  unpack_k<Q4>(part, shape, integers);
}
void unpack_q4_0_v(const std::byte* part, BlockShape shape, std::byte* integers) {
  unpack_v<Q4>(part, shape, integers);
}

}  // namespace larder::simd::avx2
