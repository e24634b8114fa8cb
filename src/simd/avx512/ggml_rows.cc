// Rows of ggml blocks to bf16 parts: 32 elements of a row become a vector of 16 pairs of channels,
// which K needs transposed and V interleaved with the next row's.
#include "simd/avx512/ggml_rows.h"

#include <immintrin.h>

#include "simd/avx512/transpose.h"
#include "simd/unroll.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kBlock = 32;  // elements

inline __m128i load16(const std::byte* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

inline __m512 scale_of(const std::byte* block) {
  std::uint16_t half;
  __builtin_memcpy(&half, block, sizeof(half));
  return _mm512_maskz_cvtph_ps(0xffff, _mm256_set1_epi16(static_cast<std::int16_t>(half)));
}

// The 32 elements of a block as bf16.
struct Q8 {
  static constexpr std::size_t kBytes = 34;
  static __m512i read(const std::byte* block) {
    const __m512 scale = scale_of(block);
    const __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(block + 2)));
    const __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(block + 18)));
    return reinterpret_cast<__m512i>(
        _mm512_cvtne2ps_pbh(_mm512_mul_ps(high, scale), _mm512_mul_ps(low, scale)));
  }
};

// Looked up among the sixteen that the scale makes; bits above a code's four are ignored, for the
// table has them twice.
struct Q4 {
  static constexpr std::size_t kBytes = 18;
  static __m512i read(const std::byte* block) {
    const __m512 steps = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    const __m512 values = _mm512_mul_ps(steps, scale_of(block));
    const auto table = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(values, values));
    const __m128i bytes = load16(block + 2);
    const __m256i codes = _mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes);
    return _mm512_permutexvar_epi16(_mm512_cvtepu8_epi16(codes), table);
  }
};

template <class Block>
void decode_k(const std::byte* part, BlockShape shape, std::byte* bf16) {
  const std::size_t n_groups = shape.head_dim / kBlock, row_bytes = n_groups * Block::kBytes;
  for (std::size_t tile = 0; tile < shape.block_tokens; tile += kLanes) {
    for (std::size_t g = 0; g < n_groups; ++g) {
      __m512i rows[kLanes];
      LARDER_UNROLL
      for (int r = 0; r < 16; ++r) {
        rows[r] = Block::read(part + r * row_bytes + g * Block::kBytes);
      }
      transpose(rows);
      LARDER_UNROLL
      for (int r = 0; r < 16; ++r) _mm512_storeu_si512(bf16 + r * 64, rows[r]);
      bf16 += kLanes * 64;
    }
    part += kLanes * row_bytes;
  }
}

template <class Block>
void decode_v(const std::byte* part, BlockShape shape, std::byte* bf16) {
  // Words 0 to 15 of the one and of the other, alternating; and 16 to 31.
  alignas(64) std::uint16_t low[32], high[32];
  for (int i = 0; i < 16; ++i) {
    low[2 * i] = static_cast<std::uint16_t>(i);
    low[2 * i + 1] = static_cast<std::uint16_t>(32 + i);
    high[2 * i] = static_cast<std::uint16_t>(16 + i);
    high[2 * i + 1] = static_cast<std::uint16_t>(48 + i);
  }
  const __m512i take_low = _mm512_load_si512(low), take_high = _mm512_load_si512(high);
  const std::size_t n_groups = shape.head_dim / kBlock, row_bytes = n_groups * Block::kBytes;
  for (std::size_t t = 0; t < shape.block_tokens; t += 2) {
    for (std::size_t g = 0; g < n_groups; ++g) {
      const __m512i even = Block::read(part + g * Block::kBytes);
      const __m512i odd = Block::read(part + row_bytes + g * Block::kBytes);
      _mm512_storeu_si512(bf16, _mm512_permutex2var_epi16(even, take_low, odd));
      _mm512_storeu_si512(bf16 + 64, _mm512_permutex2var_epi16(even, take_high, odd));
      bf16 += 128;
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

}  // namespace larder::simd::avx512
