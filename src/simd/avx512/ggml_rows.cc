// Rows of ggml blocks to bf16 parts: 32 elements of a row become a vector of 16 pairs of channels,
// which K needs transposed and V interleaved with the next row's.
#include "simd/avx512/ggml_rows.h"

#include <immintrin.h>

#include "simd/unroll.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kLanes = 16;
constexpr std::size_t kBlock = 32;  // elements

inline __m128i load16(const std::byte* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

struct Floats {
  __m512 low, high;  // elements 0 to 15, 16 to 31
};

inline __m512 scale_of(const std::byte* block) {
  std::uint16_t half;
  __builtin_memcpy(&half, block, sizeof(half));
  return _mm512_set1_ps(_cvtsh_ss(half));
}

struct Q8 {
  static constexpr std::size_t kBytes = 34;
  static Floats read(const std::byte* block) {
    const __m512 scale = scale_of(block);
    const __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(block + 2)));
    const __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(block + 18)));
    return {_mm512_mul_ps(low, scale), _mm512_mul_ps(high, scale)};
  }
};

struct Q4 {
  static constexpr std::size_t kBytes = 18;
  static Floats read(const std::byte* block) {
    const __m512 scale = scale_of(block);
    const __m128i bytes = load16(block + 2), mask = _mm_set1_epi8(15);
    const __m128i low = _mm_and_si128(bytes, mask);
    const __m128i high = _mm_and_si128(_mm_srli_epi16(bytes, 4), mask);
    const __m512i eight = _mm512_set1_epi32(8);
    const __m512 a = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(low), eight));
    const __m512 b = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(high), eight));
    return {_mm512_mul_ps(a, scale), _mm512_mul_ps(b, scale)};
  }
};

// rows[i] lane j <-> rows[j] lane i.
[[gnu::always_inline]] inline void transpose(__m512i (&rows)[kLanes]) {
  __m512i a[kLanes];
  LARDER_UNROLL
  for (int i = 0; i < 8; ++i) {
    a[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    a[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  }
  LARDER_UNROLL
  for (int i = 0; i < 4; ++i) {
    rows[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
    rows[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
    rows[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
    rows[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
  }
  LARDER_UNROLL
  for (int i = 0; i < 4; ++i) {
    a[i] = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88);
    a[4 + i] = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
    a[8 + i] = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
    a[12 + i] = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
  }
  LARDER_UNROLL
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm512_shuffle_i32x4(a[i], a[4 + i], 0x88);
    rows[8 + i] = _mm512_shuffle_i32x4(a[i], a[4 + i], 0xdd);
    rows[4 + i] = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0x88);
    rows[12 + i] = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0xdd);
  }
}

template <class Block>
void decode_k(const std::byte* part, BlockShape shape, std::byte* bf16) {
  const std::size_t n_groups = shape.head_dim / kBlock, row_bytes = n_groups * Block::kBytes;
  for (std::size_t tile = 0; tile < shape.block_tokens; tile += kLanes) {
    for (std::size_t g = 0; g < n_groups; ++g) {
      __m512i rows[kLanes];
      LARDER_UNROLL
      for (int r = 0; r < 16; ++r) {
        const Floats x = Block::read(part + r * row_bytes + g * Block::kBytes);
        rows[r] = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(x.high, x.low));
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
      const Floats a = Block::read(part + g * Block::kBytes);
      const Floats b = Block::read(part + row_bytes + g * Block::kBytes);
      const auto even = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(a.high, a.low));
      const auto odd = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b.high, b.low));
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
