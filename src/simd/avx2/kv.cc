#include "simd/avx2/kv.h"

#include <immintrin.h>

namespace larder::simd::avx2 {
namespace {

constexpr std::size_t kLanes = 8;
constexpr std::size_t kTileTokens = 16;  // two vectors

// Two consecutive channels of eight tokens of a K tile, or the same channels of two V rows.
struct Pair {
  __m256 first, second;
};
struct ScalarPair {
  float first, second;
};

inline Pair halves(__m256i pairs) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)),
          _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-65536)))};
}

// The formats: `k_pair` gives channels c and c + 1 (c even) of half a tile; `v_pair` the 8 channels
// from c on of rows t and t + 1 (t even), `v_one` of row t alone; `tail` a single channel of both
// rows, of row t alone when `both` is false.
struct F32 {
  static constexpr std::size_t kElementBytes = 4;
  static Pair k_pair(const std::byte* tile, std::size_t c, std::size_t half) {
    const auto* k = reinterpret_cast<const float*>(tile) + c * kTileTokens + half * kLanes;
    return {_mm256_loadu_ps(k), _mm256_loadu_ps(k + kTileTokens)};
  }
  static __m256 v_one(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(v) + t * head_dim + c);
  }
  static Pair v_pair(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim) {
    return {v_one(v, t, c, head_dim), v_one(v, t + 1, c, head_dim)};
  }
  static ScalarPair tail(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim,
                         bool both) {
    const auto* row = reinterpret_cast<const float*>(v) + t * head_dim + c;
    return {row[0], both ? row[head_dim] : 0.0F};
  }
};

struct F16 {
  static constexpr std::size_t kElementBytes = 2;
  static __m256 load(const std::uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Pair k_pair(const std::byte* tile, std::size_t c, std::size_t half) {
    const auto* k = reinterpret_cast<const std::uint16_t*>(tile) + c * kTileTokens + half * kLanes;
    return {load(k), load(k + kTileTokens)};
  }
  static __m256 v_one(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim) {
    return load(reinterpret_cast<const std::uint16_t*>(v) + t * head_dim + c);
  }
  static Pair v_pair(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim) {
    return {v_one(v, t, c, head_dim), v_one(v, t + 1, c, head_dim)};
  }
  static ScalarPair tail(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim,
                         bool both) {
    const auto* row = reinterpret_cast<const std::uint16_t*>(v) + t * head_dim + c;
    return {_cvtsh_ss(row[0]), both ? _cvtsh_ss(row[head_dim]) : 0.0F};
  }
};

struct Bf16 {
  static constexpr std::size_t kElementBytes = 2;
  static Pair k_pair(const std::byte* tile, std::size_t c, std::size_t half) {
    const auto* k = reinterpret_cast<const __m256i*>(tile) + c + half;  // a vector is 8 pairs
    return halves(_mm256_loadu_si256(k));
  }
  static Pair v_pair(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim) {
    const auto* row = reinterpret_cast<const std::uint32_t*>(v) + t / 2 * head_dim + c;
    return halves(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row)));
  }
  static __m256 v_one(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim) {
    return v_pair(v, t, c, head_dim).first;  // t is even: the last row of an odd number
  }
  static ScalarPair tail(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim,
                         bool /*both*/) {
    const auto* row = reinterpret_cast<const std::uint32_t*>(v) + t / 2 * head_dim + c;
    const std::uint32_t first = *row << 16, second = *row & 0xffff0000U;
    return {_mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(first)))),
            _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(second))))};
  }
};

// kQ queries against one K tile, all in registers. A lane adds its token's channels in ascending
// order, so a score does not depend on kQ.
template <class Format, int kQ>
void score_tile(const float* q, std::size_t head_dim, const std::byte* k, float* out,
                std::size_t stride) {
  __m256 sums[kQ][2];
  for (int i = 0; i < kQ; ++i) sums[i][0] = sums[i][1] = _mm256_setzero_ps();
  for (std::size_t c = 0; c < head_dim; c += 2) {
    const Pair low = Format::k_pair(k, c, 0), high = Format::k_pair(k, c, 1);
    for (int i = 0; i < kQ; ++i) {
      const __m256 first = _mm256_broadcast_ss(q + i * head_dim + c);
      sums[i][0] = _mm256_fmadd_ps(first, low.first, sums[i][0]);
      sums[i][1] = _mm256_fmadd_ps(first, high.first, sums[i][1]);
      const __m256 second = _mm256_broadcast_ss(q + i * head_dim + c + 1);
      sums[i][0] = _mm256_fmadd_ps(second, low.second, sums[i][0]);
      sums[i][1] = _mm256_fmadd_ps(second, high.second, sums[i][1]);
    }
  }
  for (int i = 0; i < kQ; ++i) {
    _mm256_storeu_ps(out + i * stride, sums[i][0]);
    _mm256_storeu_ps(out + i * stride + kLanes, sums[i][1]);
  }
}

template <class Format, int kQ>
void score_block(const float* q, const std::byte* k, BlockShape shape, float* out,
                 std::size_t stride) {
  const std::size_t tile_bytes = kTileTokens * shape.head_dim * Format::kElementBytes;
  for (std::size_t t = 0; t < shape.block_tokens; t += kTileTokens, k += tile_bytes) {
    score_tile<Format, kQ>(q, shape.head_dim, k, out + t, stride);
  }
}

template <class Format>
void scores(const float* q, const std::byte* k, BlockShape shape, ScoreTile out) {
  std::size_t i = 0;
  for (; i + 4 <= out.n_q; i += 4) {
    score_block<Format, 4>(q + i * shape.head_dim, k, shape, out.data + i * out.stride, out.stride);
  }
  q += i * shape.head_dim;
  float* data = out.data + i * out.stride;
  switch (out.n_q - i) {
    case 1:
      return score_block<Format, 1>(q, k, shape, data, out.stride);
    case 2:
      return score_block<Format, 2>(q, k, shape, data, out.stride);
    case 3:
      return score_block<Format, 3>(q, k, shape, data, out.stride);
    default:
      return;
  }
}

// kQ rows of weights against 8 * kC channels of V, all sums in registers. A lane adds its channel's
// tokens in ascending order, whatever stands beside.
template <class Format, int kQ, int kC>
void add_channels(const float* weights, std::size_t stride, const std::byte* v,
                  std::size_t head_dim, std::size_t first, std::uint32_t n_tokens, float* out) {
  __m256 sums[kQ][kC];
  for (int i = 0; i < kQ; ++i) {
    for (int c = 0; c < kC; ++c) {
      sums[i][c] = _mm256_loadu_ps(out + i * head_dim + first + c * kLanes);
    }
  }
  std::uint32_t t = 0;
  for (; t + 2 <= n_tokens; t += 2) {
    Pair rows[kC];
    for (int c = 0; c < kC; ++c) rows[c] = Format::v_pair(v, t, first + c * kLanes, head_dim);
    for (int i = 0; i < kQ; ++i) {
      const __m256 w0 = _mm256_broadcast_ss(weights + i * stride + t);
      for (int c = 0; c < kC; ++c) sums[i][c] = _mm256_fmadd_ps(w0, rows[c].first, sums[i][c]);
      const __m256 w1 = _mm256_broadcast_ss(weights + i * stride + t + 1);
      for (int c = 0; c < kC; ++c) sums[i][c] = _mm256_fmadd_ps(w1, rows[c].second, sums[i][c]);
    }
  }
  if (t < n_tokens) {
    for (int c = 0; c < kC; ++c) {
      const __m256 row = Format::v_one(v, t, first + c * kLanes, head_dim);
      for (int i = 0; i < kQ; ++i) {
        sums[i][c] =
            _mm256_fmadd_ps(_mm256_broadcast_ss(weights + i * stride + t), row, sums[i][c]);
      }
    }
  }
  for (int i = 0; i < kQ; ++i) {
    for (int c = 0; c < kC; ++c) {
      _mm256_storeu_ps(out + i * head_dim + first + c * kLanes, sums[i][c]);
    }
  }
}

// One channel, where head_dim is not a multiple of eight.
template <class Format, int kQ>
void add_channel(const float* weights, std::size_t stride, const std::byte* v, std::size_t head_dim,
                 std::size_t channel, std::uint32_t n_tokens, float* out) {
  for (int i = 0; i < kQ; ++i) {
    const float* row = weights + i * stride;
    float sum = out[i * head_dim + channel];
    for (std::uint32_t t = 0; t < n_tokens; t += 2) {
      const bool both = t + 1 < n_tokens;
      const ScalarPair x = Format::tail(v, t, channel, head_dim, both);
      sum = __builtin_fmaf(row[t], x.first, sum);
      if (both) sum = __builtin_fmaf(row[t + 1], x.second, sum);
    }
    out[i * head_dim + channel] = sum;
  }
}

template <class Format, int kQ>
void add_block(const float* weights, std::size_t stride, const std::byte* v, std::size_t head_dim,
               std::uint32_t n_tokens, float* out) {
  std::size_t c = 0;
  for (; c + 2 * kLanes <= head_dim; c += 2 * kLanes) {
    add_channels<Format, kQ, 2>(weights, stride, v, head_dim, c, n_tokens, out);
  }
  if (c + kLanes <= head_dim) {
    add_channels<Format, kQ, 1>(weights, stride, v, head_dim, c, n_tokens, out);
    c += kLanes;
  }
  for (; c < head_dim; ++c) {
    add_channel<Format, kQ>(weights, stride, v, head_dim, c, n_tokens, out);
  }
}

template <class Format>
void accumulate(ScoreTile weights, const std::byte* v, BlockShape shape, std::uint32_t n_tokens,
                float* out) {
  const std::size_t head_dim = shape.head_dim, stride = weights.stride;
  std::size_t i = 0;
  for (; i + 4 <= weights.n_q; i += 4) {
    add_block<Format, 4>(weights.data + i * stride, stride, v, head_dim, n_tokens,
                         out + i * head_dim);
  }
  const float* data = weights.data + i * stride;
  out += i * head_dim;
  switch (weights.n_q - i) {
    case 1:
      return add_block<Format, 1>(data, stride, v, head_dim, n_tokens, out);
    case 2:
      return add_block<Format, 2>(data, stride, v, head_dim, n_tokens, out);
    case 3:
      return add_block<Format, 3>(data, stride, v, head_dim, n_tokens, out);
    default:
      return;
  }
}

}  // namespace

void scores_f32(const float* q, const std::byte* k, BlockShape shape, ScoreTile out) {
  scores<F32>(q, k, shape, out);
}
void scores_f16(const float* q, const std::byte* k, BlockShape shape, ScoreTile out) {
  scores<F16>(q, k, shape, out);
}
void scores_bf16(const float* q, const std::byte* k, BlockShape shape, ScoreTile out) {
  scores<Bf16>(q, k, shape, out);
}

void accumulate_f32(ScoreTile weights, const std::byte* v, BlockShape shape, std::uint32_t n_tokens,
                    float* out) {
  accumulate<F32>(weights, v, shape, n_tokens, out);
}
void accumulate_f16(ScoreTile weights, const std::byte* v, BlockShape shape, std::uint32_t n_tokens,
                    float* out) {
  accumulate<F16>(weights, v, shape, n_tokens, out);
}
void accumulate_bf16(ScoreTile weights, const std::byte* v, BlockShape shape,
                     std::uint32_t n_tokens, float* out) {
  accumulate<Bf16>(weights, v, shape, n_tokens, out);
}

}  // namespace larder::simd::avx2
