// Full bf16 blocks to byte parts, and the bytes as bf16 numbers. Lanes are tokens of K and channels
// of V, in bf16 parts with two elements each, in byte parts with four.
#include "simd/avx512/byte_rows.h"
#include "simd/avx512/code_writer.h"
#include "simd/byte_rows.h"

namespace larder::simd::avx512 {
namespace {

// To the nearest of -127 to 127, halves towards zero.
[[gnu::always_inline]] inline __m512i nearest(__m512 x) {
  const __m512 at = _mm512_sub_ps(magnitude(x), _mm512_set1_ps(0.5F));
  const __m512 up = _mm512_maskz_roundscale_ps(kAll, at, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
  const __m512i size =
      _mm512_min_epi32(_mm512_maskz_cvttps_epi32(kAll, up), _mm512_set1_epi32(127));
  const __mmask16 is_negative = _mm512_movepi32_mask(_mm512_castps_si512(x));
  return _mm512_mask_sub_epi32(size, is_negative, _mm512_setzero_si512(), size);
}

/// Numbers of 8 bits in 32-bit lanes, side by side.
[[gnu::always_inline]] inline __m512i side_by_side(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i byte = _mm512_set1_epi32(0xff);
  const __m512i low = _mm512_or_si512(_mm512_and_si512(a, byte),
                                      _mm512_maskz_slli_epi32(kAll, _mm512_and_si512(b, byte), 8));
  const __m512i high = _mm512_or_si512(_mm512_maskz_slli_epi32(kAll, _mm512_and_si512(c, byte), 16),
                                       _mm512_maskz_slli_epi32(kAll, d, 24));
  return _mm512_or_si512(low, high);
}

// Scales of 16 rows, f16, from their largest magnitudes; returns what the rows are multiplied by.
inline __m512 fit(__m512 largest, std::byte* scales) {
  __m256i halves;
  const __m512 scale = to_half_and_back(_mm512_div_ps(largest, _mm512_set1_ps(127.0F)), halves);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(scales), halves);
  const __mmask16 some = _mm512_cmp_ps_mask(scale, _mm512_setzero_ps(), _CMP_GT_OQ);
  return _mm512_maskz_div_ps(some, _mm512_set1_ps(1.0F), scale);
}

[[gnu::always_inline]] inline __m512 larger(__m512 so_far, __m512 x) {
  return _mm512_maskz_max_ps(kAll, so_far, magnitude(x));
}

/// The bytes of `fours` at place i as bf16 numbers, two side by side.
template <int i>
[[gnu::always_inline]] inline __m512i pair(__m512i fours) {
  const auto number = [&](int at) {
    const __m512i up = _mm512_sllv_epi32(fours, _mm512_set1_epi32(24 - 8 * at));
    return _mm512_castps_si512(
        _mm512_maskz_cvtepi32_ps(kAll, _mm512_maskz_srai_epi32(kAll, up, 24)));
  };
  return join(_mm512_maskz_srli_epi32(kAll, number(i), 16),
              _mm512_maskz_srli_epi32(kAll, number(i + 1), 16));
}

}  // namespace

void encode_bytes_k(const std::byte* bf16, BlockShape shape, std::byte* part) {
  const std::size_t n_pairs = shape.head_dim / 2;
  std::byte* const scales = part + bytes_of_rows(shape);
  for (std::size_t t = 0; t < shape.block_tokens; t += kLanes, bf16 += n_pairs * 64) {
    __m512 largest = _mm512_setzero_ps();
    for (std::size_t p = 0; p < n_pairs; ++p) {
      const Pair x = load_pair(bf16 + p * 64);
      largest = larger(larger(largest, x.low), x.high);
    }
    const __m512 factors = fit(largest, scales + 2 * t);
    const auto byte = [&](__m512 x) { return nearest(_mm512_mul_ps(x, factors)); };
    for (std::size_t p = 0; p < n_pairs; p += 2, part += 64) {
      const Pair a = load_pair(bf16 + p * 64), b = load_pair(bf16 + (p + 1) * 64);
      _mm512_storeu_si512(part, side_by_side(byte(a.low), byte(a.high), byte(b.low), byte(b.high)));
    }
  }
}

void encode_bytes_v(const std::byte* bf16, BlockShape shape, std::byte* part) {
  const std::size_t n = shape.block_tokens, pair_bytes = std::size_t{shape.head_dim} * 4;
  alignas(64) float largest[kMaxBlockTokens], factors[kMaxBlockTokens];
  for (std::size_t t = 0; t < n; t += 2) {
    __m512 low = _mm512_setzero_ps(), high = low;
    for (std::size_t c = 0; c < shape.head_dim; c += kLanes) {
      const Pair x = load_pair(bf16 + t / 2 * pair_bytes + c * 4);
      low = larger(low, x.low);
      high = larger(high, x.high);
    }
    largest[t] = _mm512_reduce_max_ps(low);
    largest[t + 1] = _mm512_reduce_max_ps(high);
  }
  for (std::size_t t = 0; t < n; t += kLanes) {
    _mm512_store_ps(factors + t,
                    fit(_mm512_load_ps(largest + t), part + bytes_of_rows(shape) + 2 * t));
  }
  const auto byte = [&](__m512 x, std::size_t t) {
    return nearest(_mm512_mul_ps(x, _mm512_set1_ps(factors[t])));
  };
  for (std::size_t t = 0; t < n; t += 4, bf16 += 2 * pair_bytes) {
    for (std::size_t c = 0; c < shape.head_dim; c += kLanes, part += 64) {
      const Pair a = load_pair(bf16 + c * 4), b = load_pair(bf16 + pair_bytes + c * 4);
      _mm512_storeu_si512(part, side_by_side(byte(a.low, t), byte(a.high, t + 1),
                                             byte(b.low, t + 2), byte(b.high, t + 3)));
    }
  }
}

void decode_bytes_k(const std::byte* part, BlockShape shape, std::byte* bf16) {
  for (std::size_t i = 0; i < bytes_of_rows(shape); i += 64, bf16 += 128) {
    const __m512i fours = _mm512_loadu_si512(part + i);
    _mm512_storeu_si512(bf16, pair<0>(fours));
    _mm512_storeu_si512(bf16 + 64, pair<2>(fours));
  }
}

void decode_bytes_v(const std::byte* part, BlockShape shape, std::byte* bf16) {
  const std::size_t pair_bytes = std::size_t{shape.head_dim} * 4;
  for (std::size_t t = 0; t < shape.block_tokens; t += 4, bf16 += 2 * pair_bytes) {
    for (std::size_t c = 0; c < shape.head_dim; c += kLanes, part += 64) {
      const __m512i fours = _mm512_loadu_si512(part);
      _mm512_storeu_si512(bf16 + c * 4, pair<0>(fours));
      _mm512_storeu_si512(bf16 + pair_bytes + c * 4, pair<2>(fours));
    }
  }
}

}  // namespace larder::simd::avx512
