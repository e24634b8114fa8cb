// Full bf16 blocks to byte parts, and the bytes as bf16 numbers. Lanes are tokens of K and channels
// of V, in bf16 parts with two elements each, in byte parts with four.
#include "simd/avx2/byte_rows.h"
#include "simd/avx2/code_writer.h"
#include "simd/byte_rows.h"

namespace larder::simd::avx2 {
namespace {

// To the nearest of -127 to 127, halves towards zero.
[[gnu::always_inline]] inline __m256i nearest(__m256 x) {
  const __m256 up = _mm256_ceil_ps(_mm256_sub_ps(magnitude(x), _mm256_set1_ps(0.5F)));
  const __m256i size = _mm256_min_epi32(_mm256_cvttps_epi32(up), _mm256_set1_epi32(127));
  const __m256i sign = _mm256_srai_epi32(_mm256_castps_si256(x), 31);
  return _mm256_sub_epi32(_mm256_xor_si256(size, sign), sign);
}

/// Numbers of 8 bits in 32-bit lanes, side by side.
[[gnu::always_inline]] inline __m256i side_by_side(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i byte = _mm256_set1_epi32(0xff);
  const __m256i low =
      _mm256_or_si256(_mm256_and_si256(a, byte), _mm256_slli_epi32(_mm256_and_si256(b, byte), 8));
  const __m256i high =
      _mm256_or_si256(_mm256_slli_epi32(_mm256_and_si256(c, byte), 16), _mm256_slli_epi32(d, 24));
  return _mm256_or_si256(low, high);
}

// Scales of 8 rows, f16, from their largest magnitudes; returns what the rows are multiplied by.
inline __m256 fit(__m256 largest, std::byte* scales) {
  const __m128i halves = to_halves(_mm256_div_ps(largest, _mm256_set1_ps(127.0F)));
  store_halves(halves, scales);
  return factors_of(_mm256_cvtph_ps(halves));
}

[[gnu::always_inline]] inline __m256 larger(__m256 so_far, __m256 x) {
  return _mm256_max_ps(so_far, magnitude(x));
}

inline void store(std::byte* to, __m256i x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x);
}

/// The bytes of `fours` at places i and i + 1 as bf16 numbers, side by side.
template <int i>
[[gnu::always_inline]] inline __m256i pair(__m256i fours) {
  const auto number = [](__m256i on_top) {
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(on_top, 24));
  };
  return bf16_pairs(
      {number(_mm256_slli_epi32(fours, 24 - 8 * i)), number(_mm256_slli_epi32(fours, 16 - 8 * i))});
}

}  // namespace

void encode_bytes_k(const std::byte* bf16, BlockShape shape, std::byte* part) {
  const std::size_t n_pairs = shape.head_dim / 2;
  std::byte* const scales = part + bytes_of_rows(shape);
  for (std::size_t t = 0; t < shape.block_tokens; t += 8) {
    const std::byte* const from = bf16 + t / 16 * n_pairs * 64 + t % 16 * 4;
    std::byte* to = part + t / 16 * 16 * shape.head_dim + t % 16 * 4;
    __m256 largest = _mm256_setzero_ps();
    for (std::size_t p = 0; p < n_pairs; ++p) {
      const Pair x = load_pair(from + p * 64);
      largest = larger(larger(largest, x.first), x.second);
    }
    const __m256 factors = fit(largest, scales + 2 * t);
    const auto byte = [&](__m256 x) { return nearest(_mm256_mul_ps(x, factors)); };
    for (std::size_t p = 0; p < n_pairs; p += 2, to += 64) {
      const Pair a = load_pair(from + p * 64), b = load_pair(from + (p + 1) * 64);
      store(to, side_by_side(byte(a.first), byte(a.second), byte(b.first), byte(b.second)));
    }
  }
}

void encode_bytes_v(const std::byte* bf16, BlockShape shape, std::byte* part) {
  const std::size_t n = shape.block_tokens, pair_bytes = std::size_t{shape.head_dim} * 4;
  alignas(32) float largest[kMaxBlockTokens], factors[kMaxBlockTokens];
  for (std::size_t t = 0; t < n; t += 2) {
    __m256 low = _mm256_setzero_ps(), high = low;
    for (std::size_t c = 0; c < shape.head_dim; c += 8) {
      const Pair x = load_pair(bf16 + t / 2 * pair_bytes + c * 4);
      low = larger(low, x.first);
      high = larger(high, x.second);
    }
    largest[t] = max_lanes(low);
    largest[t + 1] = max_lanes(high);
  }
  for (std::size_t t = 0; t < n; t += 8) {
    _mm256_store_ps(factors + t,
                    fit(_mm256_load_ps(largest + t), part + bytes_of_rows(shape) + 2 * t));
  }
  const auto byte = [&](__m256 x, std::size_t t) {
    return nearest(_mm256_mul_ps(x, _mm256_broadcast_ss(factors + t)));
  };
  for (std::size_t t = 0; t < n; t += 4, bf16 += 2 * pair_bytes) {
    for (std::size_t c = 0; c < shape.head_dim; c += 8, part += 32) {
      const Pair a = load_pair(bf16 + c * 4), b = load_pair(bf16 + pair_bytes + c * 4);
      store(part, side_by_side(byte(a.first, t), byte(a.second, t + 1), byte(b.first, t + 2),
                               byte(b.second, t + 3)));
    }
  }
}

void decode_bytes_k(const std::byte* part, BlockShape shape, std::byte* bf16) {
  for (std::size_t i = 0; i < bytes_of_rows(shape); i += 64, bf16 += 128) {
    for (std::size_t h = 0; h < 64; h += 32) {
      const __m256i fours = load_words(part + i + h);
      store(bf16 + h, pair<0>(fours));
      store(bf16 + 64 + h, pair<2>(fours));
    }
  }
}

void decode_bytes_v(const std::byte* part, BlockShape shape, std::byte* bf16) {
  const std::size_t pair_bytes = std::size_t{shape.head_dim} * 4;
  for (std::size_t t = 0; t < shape.block_tokens; t += 4, bf16 += 2 * pair_bytes) {
    for (std::size_t c = 0; c < shape.head_dim; c += 8, part += 32) {
      const __m256i fours = load_words(part);
      store(bf16 + c * 4, pair<0>(fours));
      store(bf16 + pair_bytes + c * 4, pair<2>(fours));
    }
  }
}

}  // namespace larder::simd::avx2
