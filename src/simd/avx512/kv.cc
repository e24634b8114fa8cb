#include "simd/avx512/kv.h"

#include <immintrin.h>

#include "simd/by_number.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kLanes = 16;  // tokens of a K tile; channels of a vector

constexpr __mmask16 kAll = 0xffff;

// The masked forms with a full mask compile to the plain ones, whose definitions in GCC 12's
// headers draw false -Wmaybe-uninitialized warnings.
inline __m512 widen(__m256i halves) { return _mm512_maskz_cvtph_ps(kAll, halves); }

// Two consecutive channels of a K tile, or the same channels of two consecutive V rows.
struct Pair {
  __m512 first, second;
};

inline __m512 upper_half(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
}
inline __m512 lower_half(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, pairs, 16));
}

// The formats: `k_pair` gives channels c and c + 1 (c even) of a tile; `v_pair` the 16 channels
// from c on of rows t and t + 1 (t even), `v_one` of row t alone; lanes outside `mask` are not
// read.
struct F32 {
  static constexpr std::size_t kElementBytes = 4;
  static Pair k_pair(const std::byte* tile, std::size_t c) {
    const auto* k = reinterpret_cast<const float*>(tile) + c * kLanes;
    return {_mm512_loadu_ps(k), _mm512_loadu_ps(k + kLanes)};
  }
  static __m512 v_one(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim,
                      __mmask16 mask) {
    return _mm512_maskz_loadu_ps(mask, reinterpret_cast<const float*>(v) + t * head_dim + c);
  }
  static Pair v_pair(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim,
                     __mmask16 mask) {
    return {v_one(v, t, c, head_dim, mask), v_one(v, t + 1, c, head_dim, mask)};
  }
};

struct F16 {
  static constexpr std::size_t kElementBytes = 2;
  static Pair k_pair(const std::byte* tile, std::size_t c) {
    const auto* k = reinterpret_cast<const __m256i*>(tile) + c;
    return {widen(_mm256_loadu_si256(k)), widen(_mm256_loadu_si256(k + 1))};
  }
  static __m512 v_one(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim,
                      __mmask16 mask) {
    const auto* row = reinterpret_cast<const std::uint16_t*>(v) + t * head_dim + c;
    return widen(_mm256_maskz_loadu_epi16(mask, row));
  }
  static Pair v_pair(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim,
                     __mmask16 mask) {
    return {v_one(v, t, c, head_dim, mask), v_one(v, t + 1, c, head_dim, mask)};
  }
};

struct Bf16 {
  static constexpr std::size_t kElementBytes = 2;
  static Pair k_pair(const std::byte* tile, std::size_t c) {
    const __m512i pairs = _mm512_loadu_si512(tile + c * kLanes * kElementBytes);
    return {lower_half(pairs), upper_half(pairs)};
  }
  static Pair v_pair(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim,
                     __mmask16 mask) {
    const auto* row = reinterpret_cast<const std::uint32_t*>(v) + t / 2 * head_dim + c;
    const __m512i pairs = _mm512_maskz_loadu_epi32(mask, row);
    return {lower_half(pairs), upper_half(pairs)};
  }
  static __m512 v_one(const std::byte* v, std::size_t t, std::size_t c, std::size_t head_dim,
                      __mmask16 mask) {
    return v_pair(v, t, c, head_dim, mask).first;  // t is even: the last row of an odd number
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

// The bytes of a pair of vectors take one or two cache lines.
template <class Format>
inline void fetch(const std::byte* pair, std::ptrdiff_t ahead) {
  const char* line = reinterpret_cast<const char*>(pair) + ahead;
  _mm_prefetch(line, _MM_HINT_T0);
  if constexpr (Format::kElementBytes == 4) _mm_prefetch(line + 64, _MM_HINT_T0);
}

// kQ queries against kT neighbouring K tiles, all in registers. A lane adds its token's channels in
// ascending order, so a score does not depend on kQ or kT.
template <class Format, int kQ, int kT>
void score_tiles(const float* q, const Source& k, float* out, std::size_t stride) {
  const std::size_t pair_bytes = 2 * kLanes * Format::kElementBytes;
  const std::size_t tile_bytes = k.head_dim / 2 * pair_bytes;
  __m512 sums[kQ][kT];
  for (int i = 0; i < kQ; ++i) {
    for (int t = 0; t < kT; ++t) sums[i][t] = _mm512_setzero_ps();
  }
  for (std::size_t c = 0; c < k.head_dim; c += 2) {
    Pair rows[kT];
    for (int t = 0; t < kT; ++t) {
      rows[t] = Format::k_pair(k.data + t * tile_bytes, c);
      fetch<Format>(k.data + t * tile_bytes + c / 2 * pair_bytes, k.ahead);
    }
    for (int i = 0; i < kQ; ++i) {
      const __m512 first = _mm512_set1_ps(q[i * k.head_dim + c]);
      const __m512 second = _mm512_set1_ps(q[i * k.head_dim + c + 1]);
      for (int t = 0; t < kT; ++t) {
        sums[i][t] = _mm512_fmadd_ps(first, rows[t].first, sums[i][t]);
        sums[i][t] = _mm512_fmadd_ps(second, rows[t].second, sums[i][t]);
      }
    }
  }
  for (int i = 0; i < kQ; ++i) {
    for (int t = 0; t < kT; ++t) _mm512_storeu_ps(out + i * stride + t * kLanes, sums[i][t]);
  }
}

template <class Format, int kQ>
void score_block(const float* q, KvPart part, BlockShape shape, float* out, std::size_t stride) {
  const std::size_t tile_bytes = kLanes * shape.head_dim * Format::kElementBytes;
  Source k = source(part, shape);
  std::size_t t = 0;
  for (; t + 2 * kLanes <= shape.block_tokens; t += 2 * kLanes, k.data += 2 * tile_bytes) {
    score_tiles<Format, kQ, 2>(q, k, out + t, stride);
  }
  if (t < shape.block_tokens) score_tiles<Format, kQ, 1>(q, k, out + t, stride);
}

template <class Format>
void scores(const float* q, KvPart k, BlockShape shape, ScoreTile out) {
  std::size_t i = 0;
  for (; i + 8 <= out.n_q; i += 8) {
    score_block<Format, 8>(q + i * shape.head_dim, k, shape, out.data + i * out.stride, out.stride);
  }
  q += i * shape.head_dim;
  float* data = out.data + i * out.stride;
  if (i == out.n_q) return;
  by_number<1, 2, 3, 4, 5, 6, 7>(
      out.n_q - i, [&](auto n) { score_block<Format, n()>(q, k, shape, data, out.stride); });
}

// Some of the channels of V: those of `first` and the vectors after it; `mask` is for the last.
struct Channels {
  std::size_t first;
  __mmask16 mask;
};

// kQ rows of weights against 16 * kC channels of V, all sums in registers. A lane adds its
// channel's tokens in ascending order, whatever stands beside.
template <class Format, int kQ, int kC>
void add_channels(ScoreTile weights, const Source& v, Channels channels, std::uint32_t n_tokens,
                  float* out) {
  const std::size_t head_dim = v.head_dim, first = channels.first;
  const auto mask = [&](int c) { return c + 1 < kC ? kAll : channels.mask; };
  __m512 sums[kQ][kC];
  for (int i = 0; i < kQ; ++i) {
    for (int c = 0; c < kC; ++c) {
      sums[i][c] = _mm512_maskz_loadu_ps(mask(c), out + i * head_dim + first + c * kLanes);
    }
  }
  std::uint32_t t = 0;
  for (; t + 2 <= n_tokens; t += 2) {
    Pair rows[kC];
    for (int c = 0; c < kC; ++c) {
      const std::size_t channel = first + c * kLanes;
      rows[c] = Format::v_pair(v.data, t, channel, head_dim, mask(c));
      fetch<Format>(v.data + (t * head_dim + 2 * channel) * Format::kElementBytes, v.ahead);
    }
    for (int i = 0; i < kQ; ++i) {
      const __m512 w0 = _mm512_set1_ps(weights.data[i * weights.stride + t]);
      const __m512 w1 = _mm512_set1_ps(weights.data[i * weights.stride + t + 1]);
      for (int c = 0; c < kC; ++c) {
        sums[i][c] = _mm512_fmadd_ps(w0, rows[c].first, sums[i][c]);
        sums[i][c] = _mm512_fmadd_ps(w1, rows[c].second, sums[i][c]);
      }
    }
  }
  if (t < n_tokens) {
    for (int c = 0; c < kC; ++c) {
      const __m512 row = Format::v_one(v.data, t, first + c * kLanes, head_dim, mask(c));
      for (int i = 0; i < kQ; ++i) {
        const __m512 w = _mm512_set1_ps(weights.data[i * weights.stride + t]);
        sums[i][c] = _mm512_fmadd_ps(w, row, sums[i][c]);
      }
    }
  }
  for (int i = 0; i < kQ; ++i) {
    for (int c = 0; c < kC; ++c) {
      _mm512_mask_storeu_ps(out + i * head_dim + first + c * kLanes, mask(c), sums[i][c]);
    }
  }
}

template <class Format, int kQ>
void add_block(ScoreTile weights, const Source& v, std::uint32_t n_tokens, float* out) {
  std::size_t c = 0;
  for (; c + 4 * kLanes <= v.head_dim; c += 4 * kLanes) {
    add_channels<Format, kQ, 4>(weights, v, {c, kAll}, n_tokens, out);
  }
  for (; c < v.head_dim; c += kLanes) {
    const std::size_t left = v.head_dim - c;
    const auto mask = static_cast<__mmask16>(left >= kLanes ? kAll : (1U << left) - 1U);
    add_channels<Format, kQ, 1>(weights, v, {c, mask}, n_tokens, out);
  }
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
    _mm_prefetch(reinterpret_cast<const char*>(data) + i, _MM_HINT_T1);
  }
}

}  // namespace larder::simd::avx512
