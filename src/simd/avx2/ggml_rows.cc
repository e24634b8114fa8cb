// Rows of ggml blocks to bf16 parts: 32 elements of a row become two vectors of 8 pairs of
// channels, which K needs transposed, or for V pairs with those of the next row.
#include "simd/avx2/ggml_rows.h"

#include <immintrin.h>

#include "simd/unroll.h"

namespace larder::simd::avx2 {
namespace {

constexpr std::size_t kTileTokens = 16;
constexpr std::size_t kBlock = 32;  // elements

inline __m128i load16(const std::byte* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

inline __m256 scale_of(const std::byte* block) {
  std::uint16_t half;
  __builtin_memcpy(&half, block, sizeof(half));
  return _mm256_set1_ps(_cvtsh_ss(half));
}

// The 32 integers of a block; elements 16 i to 16 i + 15.
struct Q8 {
  static constexpr std::size_t kBytes = 34;
  static __m128i bytes(const std::byte* block, int i) { return load16(block + 2 + 16 * i); }
};
struct Q4 {
  static constexpr std::size_t kBytes = 18;
  static __m128i bytes(const std::byte* block, int i) {
    const __m128i both = load16(block + 2);
    const __m128i codes = _mm_and_si128(i == 0 ? both : _mm_srli_epi16(both, 4), _mm_set1_epi8(15));
    return _mm_sub_epi8(codes, _mm_set1_epi8(8));
  }
};

// The bits of x rounded to bf16, in the upper half of each lane.
inline __m256i rounded(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
}
inline __m256i pairs(__m256 first, __m256 second) {
  return _mm256_blend_epi16(_mm256_srli_epi32(rounded(first), 16), rounded(second), 0xaa);
}
inline __m256 scaled(__m256i integers, __m256 scale) {
  return _mm256_mul_ps(_mm256_cvtepi32_ps(integers), scale);
}

// Elements 16 i to 16 i + 15 of a block as 8 pairs.
template <class Block>
inline __m256i read_pairs(const std::byte* block, int i, __m256 scale) {
  const __m256i words = _mm256_cvtepi8_epi16(Block::bytes(block, i));
  return pairs(scaled(_mm256_srai_epi32(_mm256_slli_epi32(words, 16), 16), scale),
               scaled(_mm256_srai_epi32(words, 16), scale));
}

// rows[i] lane j <-> rows[j] lane i.
[[gnu::always_inline]] inline void transpose(__m256i (&rows)[8]) {
  __m256i a[8];
  LARDER_UNROLL
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = _mm256_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    a[2 * i + 1] = _mm256_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  }
  LARDER_UNROLL
  for (int i = 0; i < 2; ++i) {
    rows[4 * i] = _mm256_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
    rows[4 * i + 1] = _mm256_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
    rows[4 * i + 2] = _mm256_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
    rows[4 * i + 3] = _mm256_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
  }
  LARDER_UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m256i low = rows[i], high = rows[4 + i];
    rows[i] = _mm256_permute2x128_si256(low, high, 0x20);
    rows[4 + i] = _mm256_permute2x128_si256(low, high, 0x31);
  }
}

template <class Block>
void decode_k(const std::byte* part, BlockShape shape, std::byte* bf16) {
  const std::size_t n_groups = shape.head_dim / kBlock, row_bytes = n_groups * Block::kBytes;
  for (std::size_t tile = 0; tile < shape.block_tokens; tile += kTileTokens) {
    for (std::size_t g = 0; g < n_groups; ++g) {
      for (int half = 0; half < 2; ++half) {  // of the tokens
        for (int i = 0; i < 2; ++i) {         // of the pairs
          __m256i rows[8];
          LARDER_UNROLL
          for (int r = 0; r < 8; ++r) {
            const std::byte* const block =
                part + static_cast<std::size_t>(8 * half + r) * row_bytes + g * Block::kBytes;
            rows[r] = read_pairs<Block>(block, i, scale_of(block));
          }
          transpose(rows);
          LARDER_UNROLL
          for (int r = 0; r < 8; ++r) {
            std::byte* const to = bf16 + static_cast<std::size_t>(8 * i + r) * 64 + 32 * half;
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), rows[r]);
          }
        }
      }
      bf16 += kTileTokens * 64;
    }
    part += kTileTokens * row_bytes;
  }
}

template <class Block>
void decode_v(const std::byte* part, BlockShape shape, std::byte* bf16) {
  const std::size_t n_groups = shape.head_dim / kBlock, row_bytes = n_groups * Block::kBytes;
  for (std::size_t t = 0; t < shape.block_tokens; t += 2) {
    for (std::size_t g = 0; g < n_groups; ++g) {
      const std::byte* const even = part + g * Block::kBytes;
      const std::byte* const odd = even + row_bytes;
      const __m256 of_even = scale_of(even), of_odd = scale_of(odd);
      for (int i = 0; i < 2; ++i) {
        const __m128i a = Block::bytes(even, i), b = Block::bytes(odd, i);
        const __m256i low = pairs(scaled(_mm256_cvtepi8_epi32(a), of_even),
                                  scaled(_mm256_cvtepi8_epi32(b), of_odd));
        const __m256i high = pairs(scaled(_mm256_cvtepi8_epi32(_mm_srli_si128(a, 8)), of_even),
                                   scaled(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)), of_odd));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(bf16), low);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(bf16 + 32), high);
        bf16 += 64;
      }
    }
    part += 2 * row_bytes;
  }
}

}  // namespace

void decode_q8_0_k(const std::byte* part, BlockShape shape, std::byte* bf16) {
  decode_k<Q8>(part, shape, bf16);
}
void decode_q8_0_v(const std::byte* part, BlockShape shape, std::byte* bf16) {
  decode_v<Q8>(part, shape, bf16);
}
void decode_q4_0_k(const std::byte* part, BlockShape shape, std::byte* bf16) {
  decode_k<Q4>(part, shape, bf16);
}
void decode_q4_0_v(const std::byte* part, BlockShape shape, std::byte* bf16) {
  decode_v<Q4>(part, shape, bf16);
}

}  // namespace larder::simd::avx2
