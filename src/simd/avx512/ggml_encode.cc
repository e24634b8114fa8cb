// Sealing: full bf16 parts to rows of ggml blocks, 32 elements of a row at a time.
#include <immintrin.h>

#include "simd/avx512/ggml_rows.h"
#include "simd/avx512/transpose.h"
#include "simd/unroll.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kBlock = 32;  // elements
constexpr __mmask16 kAll = 0xffff;

struct Floats {
  __m512 low, high;  // elements 0 to 15, 16 to 31
};

inline __m512 magnitude(__m512 x) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff)));
}

// NaN is zero, what is beyond +-65504 that.
inline __m512 finite(__m512i bits) {
  const __m512 x = _mm512_castsi512_ps(bits);
  const __mmask16 is_number = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
  const __m512 top = _mm512_set1_ps(65504.0F), bottom = _mm512_set1_ps(-65504.0F);
  return _mm512_maskz_max_ps(is_number, _mm512_maskz_min_ps(is_number, x, top), bottom);
}

inline float largest_magnitude(const Floats& x) {
  return _mm512_reduce_max_ps(_mm512_maskz_max_ps(kAll, magnitude(x.low), magnitude(x.high)));
}

// Zero of what has no finite inverse.
inline __m512 inverse(float scale) {
  constexpr float kLeast = 0x1p-126F;
  return _mm512_set1_ps(scale >= kLeast || scale <= -kLeast ? 1 / scale : 0.0F);
}

inline void store_scale(float scale, std::byte* block) {
  const __m128i halves = _mm_cvtps_ph(_mm_set_ss(scale), _MM_FROUND_TO_NEAREST_INT);
  const auto half = static_cast<std::uint16_t>(_mm_extract_epi16(halves, 0));
  __builtin_memcpy(block, &half, sizeof(half));
}

inline void store16(__m512i codes, std::byte* to) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_maskz_cvtepi32_epi8(kAll, codes));
}

struct Q8 {
  static constexpr std::size_t kBytes = 34;
  // To the nearest integer, halves away from zero.
  static __m512i code(__m512 x) {
    const __m512 size = magnitude(x);
    const __m512 whole =
        _mm512_maskz_roundscale_ps(kAll, size, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const __mmask16 up =
        _mm512_cmp_ps_mask(_mm512_sub_ps(size, whole), _mm512_set1_ps(0.5F), _CMP_GE_OQ);
    const __m512 nearest = _mm512_mask_add_ps(whole, up, whole, _mm512_set1_ps(1.0F));
    const __m512i steps =
        _mm512_min_epi32(_mm512_maskz_cvttps_epi32(kAll, nearest), _mm512_set1_epi32(127));
    const __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mask_sub_epi32(steps, below, _mm512_setzero_si512(), steps);
  }
  static void write(const Floats& x, std::byte* block) {
    const float scale = largest_magnitude(x) / 127;
    const __m512 factor = inverse(scale);
    store_scale(scale, block);
    store16(code(_mm512_mul_ps(x.low, factor)), block + 2);
    store16(code(_mm512_mul_ps(x.high, factor)), block + 18);
  }
};

struct Q4 {
  static constexpr std::size_t kBytes = 18;
  static __m512i code(__m512 x, __m512 factor) {
    const __m512 moved = _mm512_add_ps(_mm512_mul_ps(x, factor), _mm512_set1_ps(8.5F));
    const __m512i whole = _mm512_maskz_cvttps_epi32(kAll, moved);
    return _mm512_min_epi32(_mm512_max_epi32(whole, _mm512_setzero_si512()), _mm512_set1_epi32(15));
  }
  // The first of the largest elements, with its sign, has code 0, that is -8.
  static float first_largest(const Floats& x) {
    const float size = largest_magnitude(x);
    const __m512 at = _mm512_set1_ps(size);
    const unsigned is_it =
        _mm512_cmp_ps_mask(magnitude(x.low), at, _CMP_EQ_OQ) |
        static_cast<unsigned>(_mm512_cmp_ps_mask(magnitude(x.high), at, _CMP_EQ_OQ)) << 16;
    const unsigned is_negative =
        _mm512_movepi32_mask(_mm512_castps_si512(x.low)) |
        static_cast<unsigned>(_mm512_movepi32_mask(_mm512_castps_si512(x.high))) << 16;
    return (is_it & (0U - is_it) & is_negative) != 0 ? -size : size;
  }
  static void write(const Floats& x, std::byte* block) {
    const float scale = first_largest(x) / -8;
    const __m512 factor = inverse(scale);
    store_scale(scale, block);
    const __m512i high = _mm512_maskz_slli_epi32(kAll, code(x.high, factor), 4);
    store16(_mm512_or_si512(code(x.low, factor), high), block + 2);
  }
};

inline __m512 words_to_floats(__m256i words) {
  return finite(_mm512_maskz_slli_epi32(kAll, _mm512_maskz_cvtepu16_epi32(kAll, words), 16));
}

template <class Block>
void encode_k(const std::byte* bf16, BlockShape shape, std::byte* part) {
  const std::size_t n_groups = shape.head_dim / kBlock, row_bytes = n_groups * Block::kBytes;
  for (std::size_t tile = 0; tile < shape.block_tokens; tile += kLanes) {
    for (std::size_t g = 0; g < n_groups; ++g) {
      __m512i rows[kLanes];
      LARDER_UNROLL
      for (int r = 0; r < 16; ++r) rows[r] = _mm512_loadu_si512(bf16 + r * 64);
      transpose(rows);
      for (std::size_t r = 0; r < kLanes; ++r) {
        const Floats x{words_to_floats(_mm512_castsi512_si256(rows[r])),
                       words_to_floats(_mm512_maskz_extracti64x4_epi64(0xff, rows[r], 1))};
        Block::write(x, part + r * row_bytes + g * Block::kBytes);
      }
      bf16 += kLanes * 64;
    }
    part += kLanes * row_bytes;
  }
}

template <class Block>
void encode_v(const std::byte* bf16, BlockShape shape, std::byte* part) {
  const __m512i upper = _mm512_set1_epi32(-65536);
  const std::size_t n_groups = shape.head_dim / kBlock, row_bytes = n_groups * Block::kBytes;
  for (std::size_t t = 0; t < shape.block_tokens; t += 2) {
    for (std::size_t g = 0; g < n_groups; ++g) {
      const __m512i low = _mm512_loadu_si512(bf16), high = _mm512_loadu_si512(bf16 + 64);
      const Floats even{finite(_mm512_maskz_slli_epi32(kAll, low, 16)),
                        finite(_mm512_maskz_slli_epi32(kAll, high, 16))};
      const Floats odd{finite(_mm512_and_si512(low, upper)), finite(_mm512_and_si512(high, upper))};
      Block::write(even, part + g * Block::kBytes);
      Block::write(odd, part + row_bytes + g * Block::kBytes);
      bf16 += 128;
    }
    part += 2 * row_bytes;
  }
}

}  // namespace

void encode_q8_0_k(const std::byte* bf16, BlockShape shape, std::byte* part) {
  encode_k<Q8>(bf16, shape, part);
}
void encode_q8_0_v(const std::byte* bf16, BlockShape shape, std::byte* part) {
  encode_v<Q8>(bf16, shape, part);
}
void encode_q4_0_k(const std::byte* bf16, BlockShape shape, std::byte* part) {
  encode_k<Q4>(bf16, shape, part);
}
void encode_q4_0_v(const std::byte* bf16, BlockShape shape, std::byte* part) {
  encode_v<Q4>(bf16, shape, part);
}

}  // namespace larder::simd::avx512
