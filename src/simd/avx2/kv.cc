#include "simd/avx2/kv.h"

#include <immintrin.h>

#include "simd/by_number.h"

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

// Where the part at hand is, and how far ahead of it stands what will be read next.
struct Source {
  const std::byte* data;
  std::ptrdiff_t ahead;
  std::size_t head_dim;
};
inline Source source(KvPart part, BlockShape shape) {
  return {part.data, part.next == nullptr ? 0 : part.next - part.data, shape.head_dim};
}

// The bytes of two pairs of vectors take one or two cache lines.
template <class Format>
inline void fetch(const std::byte* pairs, std::ptrdiff_t ahead) {
  const char* line = reinterpret_cast<const char*>(pairs) + ahead;
  _mm_prefetch(line, _MM_HINT_T0);
  if constexpr (Format::kElementBytes == 4) _mm_prefetch(line + 64, _MM_HINT_T0);
}

// kQ queries against one K tile, all in registers. A lane adds its token's channels in ascending
// order, so a score does not depend on kQ.
template <class Format, int kQ>
void score_tile(const float* q, const Source& k, float* out, std::size_t stride) {
  const std::size_t head_dim = k.head_dim;
  __m256 sums[kQ][2];
  for (int i = 0; i < kQ; ++i) sums[i][0] = sums[i][1] = _mm256_setzero_ps();
  for (std::size_t c = 0; c < head_dim; c += 2) {
    const Pair low = Format::k_pair(k.data, c, 0), high = Format::k_pair(k.data, c, 1);
    fetch<Format>(k.data + c * kTileTokens * Format::kElementBytes, k.ahead);
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
void score_block(const float* q, KvPart part, BlockShape shape, float* out, std::size_t stride) {
  const std::size_t tile_bytes = kTileTokens * shape.head_dim * Format::kElementBytes;
  Source k = source(part, shape);
  for (std::size_t t = 0; t < shape.block_tokens; t += kTileTokens, k.data += tile_bytes) {
    score_tile<Format, kQ>(q, k, out + t, stride);
  }
}

template <class Format>
void scores(const float* q, KvPart k, BlockShape shape, ScoreTile out) {
  std::size_t i = 0;
  for (; i + 4 <= out.n_q; i += 4) {
    score_block<Format, 4>(q + i * shape.head_dim, k, shape, out.data + i * out.stride, out.stride);
  }
  q += i * shape.head_dim;
  float* data = out.data + i * out.stride;
  if (i == out.n_q) return;
  by_number<1, 2, 3>(out.n_q - i,
                     [&](auto n) { score_block<Format, n()>(q, k, shape, data, out.stride); });
}

// kQ rows of weights against the 8 * kC channels of V from `first` on, all sums in registers. A
// lane adds its channel's tokens in ascending order, whatever stands beside.
template <class Format, int kQ, int kC>
void add_channels(ScoreTile weights, const Source& v, std::size_t first, std::uint32_t n_tokens,
                  float* out) {
  const std::size_t head_dim = v.head_dim;
  __m256 sums[kQ][kC];
  for (int i = 0; i < kQ; ++i) {
    for (int c = 0; c < kC; ++c) {
      sums[i][c] = _mm256_loadu_ps(out + i * head_dim + first + c * kLanes);
    }
  }
  std::uint32_t t = 0;
  for (; t + 2 <= n_tokens; t += 2) {
    Pair rows[kC];
    for (int c = 0; c < kC; ++c) rows[c] = Format::v_pair(v.data, t, first + c * kLanes, head_dim);
    fetch<Format>(v.data + (t * head_dim + 2 * first) * Format::kElementBytes, v.ahead);
    for (int i = 0; i < kQ; ++i) {
      const float* w = weights.data + i * weights.stride + t;
      const __m256 w0 = _mm256_broadcast_ss(w);
      for (int c = 0; c < kC; ++c) sums[i][c] = _mm256_fmadd_ps(w0, rows[c].first, sums[i][c]);
      const __m256 w1 = _mm256_broadcast_ss(w + 1);
      for (int c = 0; c < kC; ++c) sums[i][c] = _mm256_fmadd_ps(w1, rows[c].second, sums[i][c]);
    }
  }
  if (t < n_tokens) {
    for (int c = 0; c < kC; ++c) {
      const __m256 row = Format::v_one(v.data, t, first + c * kLanes, head_dim);
      for (int i = 0; i < kQ; ++i) {
        const __m256 w = _mm256_broadcast_ss(weights.data + i * weights.stride + t);
        sums[i][c] = _mm256_fmadd_ps(w, row, sums[i][c]);
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
void add_channel(ScoreTile weights, const Source& v, std::size_t channel, std::uint32_t n_tokens,
                 float* out) {
  for (int i = 0; i < kQ; ++i) {
    const float* row = weights.data + i * weights.stride;
    float sum = out[i * v.head_dim + channel];
    for (std::uint32_t t = 0; t < n_tokens; t += 2) {
      const bool both = t + 1 < n_tokens;
      const ScalarPair x = Format::tail(v.data, t, channel, v.head_dim, both);
      sum = __builtin_fmaf(row[t], x.first, sum);
      if (both) sum = __builtin_fmaf(row[t + 1], x.second, sum);
    }
    out[i * v.head_dim + channel] = sum;
  }
}

template <class Format, int kQ>
void add_block(ScoreTile weights, const Source& v, std::uint32_t n_tokens, float* out) {
  std::size_t c = 0;
  for (; c + 2 * kLanes <= v.head_dim; c += 2 * kLanes) {
    add_channels<Format, kQ, 2>(weights, v, c, n_tokens, out);
  }
  if (c + kLanes <= v.head_dim) {
    add_channels<Format, kQ, 1>(weights, v, c, n_tokens, out);
    c += kLanes;
  }
  for (; c < v.head_dim; ++c) add_channel<Format, kQ>(weights, v, c, n_tokens, out);
}

template <class Format>
void accumulate(ScoreTile weights, KvPart part, BlockShape shape, std::uint32_t n_tokens,
                float* out) {
  const Source v = source(part, shape);
  for (; weights.n_q >= 4; weights.n_q -= 4) {
    add_block<Format, 4>(weights, v, n_tokens, out);
    weights.data += 4 * weights.stride;
    out += 4 * v.head_dim;
  }
  if (weights.n_q == 0) return;
  by_number<1, 2, 3>(weights.n_q,
                     [&](auto n) { add_block<Format, n()>(weights, v, n_tokens, out); });
}

}  // namespace

void scores_f32(const float* q, KvPart k, BlockShape shape, ScoreTile out) {
  scores<F32>(q, k, shape, out);
}
void scores_f16(const float* q, KvPart k, BlockShape shape, ScoreTile out) {
  scores<F16>(q, k, shape, out);
}
void scores_bf16(const float* q, KvPart k, BlockShape shape, ScoreTile out) {
  scores<Bf16>(q, k, shape, out);
}

void accumulate_f32(ScoreTile weights, KvPart v, BlockShape shape, std::uint32_t n_tokens,
                    float* out) {
  accumulate<F32>(weights, v, shape, n_tokens, out);
}
void accumulate_f16(ScoreTile weights, KvPart v, BlockShape shape, std::uint32_t n_tokens,
                    float* out) {
  accumulate<F16>(weights, v, shape, n_tokens, out);
}
void accumulate_bf16(ScoreTile weights, KvPart v, BlockShape shape, std::uint32_t n_tokens,
                     float* out) {
  accumulate<Bf16>(weights, v, shape, n_tokens, out);
}

void fetch_lines(const std::byte* data, std::size_t n) {
  for (std::size_t i = 0; i < n; i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(data) + i, _MM_HINT_T0);
  }
}

}  // namespace larder::simd::avx2
