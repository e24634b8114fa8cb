// Runs of bf16 blocks by VDPBF16PS: two channels, or two tokens, per lane and instruction. Queries
// and weights are packed to bf16 pairs once per call. Two such instructions start per cycle and
// take six: twelve sums or more keep them busy.
#include <immintrin.h>

#include "simd/avx512/kv.h"
#include "simd/run_distance.h"
#include "simd/unroll.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kLanes = 16;            // tokens of a K tile; channels of a vector
constexpr std::size_t kMaxChunkTokens = 512;  // whose weights are packed at once
constexpr __mmask16 kAll = 0xffff;

// Pairs of one query, or of its weights, begin this many dwords after those of the one before: a
// whole number of cache lines, but no power of two, so that queries do not compete for cache sets.
constexpr std::size_t kQueryPairs = kMaxHeadDim / 2 + kLanes;
constexpr std::size_t kWeightPairs = kMaxChunkTokens / 2 + kLanes;

inline __m512bh as_bf16(__m512i pairs) { return reinterpret_cast<__m512bh>(pairs); }
inline __m512i as_pairs(__m512bh pairs) { return reinterpret_cast<__m512i>(pairs); }
inline __mmask16 first_lanes(std::size_t n) {
  return static_cast<__mmask16>(n >= kLanes ? kAll : (1U << n) - 1U);
}

// out[i] = elements 2 i and 2 i + 1 of x [n] as bf16; one more where n is odd is zero. Writes whole
// vectors.
inline void pack(const float* x, std::size_t n, std::uint32_t* out) {
  for (std::size_t i = 0; i < n; i += 2 * kLanes) {
    const std::size_t left = n - i;
    const __m512 low = _mm512_maskz_loadu_ps(first_lanes(left), x + i);
    const __mmask16 rest = left > kLanes ? first_lanes(left - kLanes) : __mmask16{0};
    const __m512 high = _mm512_maskz_loadu_ps(rest, x + i + kLanes);
    _mm512_storeu_si512(out + i / 2, as_pairs(_mm512_cvtne2ps_pbh(high, low)));
  }
}

inline void fetch(const std::byte* line, std::ptrdiff_t ahead) {
  _mm_prefetch(reinterpret_cast<const char*>(line) + ahead, _MM_HINT_T0);
}

// kQ queries against kT neighbouring K tiles. A lane adds its token's channel pairs in ascending
// order, so a score does not depend on kQ or kT.
template <int kQ, int kT>
void score_tiles(const std::uint32_t* q, const std::byte* k, std::ptrdiff_t ahead,
                 std::size_t n_pairs, ScoreTile out) {
  const std::size_t tile_bytes = n_pairs * 64;
  __m512 sums[kQ][kT];
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    LARDER_UNROLL
    for (int t = 0; t < kT; ++t) sums[i][t] = _mm512_setzero_ps();
  }
  for (std::size_t c = 0; c < n_pairs; ++c, ++q, k += 64) {
    __m512bh rows[kT];
    LARDER_UNROLL
    for (int t = 0; t < kT; ++t) {
      rows[t] = as_bf16(_mm512_loadu_si512(k + t * tile_bytes));
      fetch(k + t * tile_bytes, ahead);
    }
    LARDER_UNROLL
    for (int i = 0; i < kQ; ++i) {
      const __m512bh pair = as_bf16(_mm512_set1_epi32(static_cast<int>(q[i * kQueryPairs])));
      LARDER_UNROLL
      for (int t = 0; t < kT; ++t) sums[i][t] = _mm512_dpbf16_ps(sums[i][t], pair, rows[t]);
    }
  }
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    LARDER_UNROLL
    for (int t = 0; t < kT; ++t) {
      _mm512_storeu_ps(out.data + i * out.stride + t * kLanes, sums[i][t]);
    }
  }
}

template <int kQ>
void score_run(const std::uint32_t* q, const KvRun& k, BlockShape shape, ScoreTile out) {
  const std::size_t n_pairs = shape.head_dim / 2, tile_bytes = n_pairs * 64;
  const std::size_t part_bytes = std::size_t{shape.block_tokens} * shape.head_dim * 2;
  for (std::size_t b = 0; b < k.n_blocks; ++b) {
    const std::byte* tile = k.parts[b];
    const std::ptrdiff_t ahead = distance_ahead(k, b, part_bytes);
    std::size_t t = 0;
    for (; t + 2 * kLanes <= shape.block_tokens; t += 2 * kLanes, tile += 2 * tile_bytes) {
      score_tiles<kQ, 2>(q, tile, ahead, n_pairs, out);
      out.data += 2 * kLanes;
    }
    if (t < shape.block_tokens) {
      score_tiles<kQ, 1>(q, tile, ahead, n_pairs, out);
      out.data += kLanes;
    }
  }
}

// Some of the channels of V: those of `first` and the vectors after it; `mask` is for the last.
struct Channels {
  std::size_t first;
  __mmask16 mask;
};

// kQ rows of weights, two tokens each, against those tokens of V.
template <int kQ, int kC>
[[gnu::always_inline]] inline void add_pair(const std::uint32_t* weights, const __m512i (&rows)[kC],
                                            __m512 (&sums)[kQ][kC]) {
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    const __m512bh w = as_bf16(_mm512_set1_epi32(static_cast<int>(weights[i * kWeightPairs])));
    LARDER_UNROLL
    for (int c = 0; c < kC; ++c) sums[i][c] = _mm512_dpbf16_ps(sums[i][c], w, as_bf16(rows[c]));
  }
}

// kQ rows of weights against 16 * kC channels of V, all sums in registers from the first block to
// the last. A lane adds its channel's token pairs in ascending order, whatever stands beside.
template <int kQ, int kC>
void add_channels(const std::uint32_t* weights, const KvRun& v, BlockShape shape,
                  std::uint32_t n_tokens, Channels channels, float* out) {
  const std::size_t head_dim = shape.head_dim, part_bytes = shape.block_tokens * head_dim * 2;
  const auto mask = [&](int c) { return c + 1 < kC ? kAll : channels.mask; };
  __m512 sums[kQ][kC];
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    LARDER_UNROLL
    for (int c = 0; c < kC; ++c) {
      sums[i][c] = _mm512_maskz_loadu_ps(mask(c), out + i * head_dim + channels.first + c * kLanes);
    }
  }
  for (std::size_t b = 0; n_tokens > 0; ++b) {
    const std::uint32_t n = n_tokens < shape.block_tokens ? n_tokens : shape.block_tokens;
    const std::byte* pair = v.parts[b] + channels.first * 4;
    const std::ptrdiff_t ahead = distance_ahead(v, b, part_bytes);
    __m512i rows[kC];
    for (std::uint32_t t = 0; t < n / 2; ++t, ++weights, pair += head_dim * 4) {
      LARDER_UNROLL
      for (int c = 0; c < kC; ++c) {
        rows[c] = _mm512_maskz_loadu_epi32(mask(c), pair + c * 64);
        fetch(pair + c * 64, ahead);
      }
      add_pair<kQ, kC>(weights, rows, sums);
    }
    if (n % 2 != 0) {  // the second row of the pair may be unwritten: not even times zero
      LARDER_UNROLL
      for (int c = 0; c < kC; ++c) {
        rows[c] = _mm512_and_si512(_mm512_maskz_loadu_epi32(mask(c), pair + c * 64),
                                   _mm512_set1_epi32(0xffff));
      }
      add_pair<kQ, kC>(weights, rows, sums);
    }
    n_tokens -= n;
  }
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    LARDER_UNROLL
    for (int c = 0; c < kC; ++c) {
      _mm512_mask_storeu_ps(out + i * head_dim + channels.first + c * kLanes, mask(c), sums[i][c]);
    }
  }
}

template <int kQ>
void add_run(const std::uint32_t* weights, const KvRun& v, BlockShape shape, std::uint32_t n_tokens,
             float* out) {
  std::size_t c = 0;
  if constexpr (kQ <= 3) {
    for (; c + 8 * kLanes <= shape.head_dim; c += 8 * kLanes) {
      add_channels<kQ, 8>(weights, v, shape, n_tokens, {c, kAll}, out);
    }
  }
  for (; c + 4 * kLanes <= shape.head_dim; c += 4 * kLanes) {
    add_channels<kQ, 4>(weights, v, shape, n_tokens, {c, kAll}, out);
  }
  if (c + 2 * kLanes <= shape.head_dim) {
    add_channels<kQ, 2>(weights, v, shape, n_tokens, {c, kAll}, out);
    c += 2 * kLanes;
  }
  for (; c < shape.head_dim; c += kLanes) {
    add_channels<kQ, 1>(weights, v, shape, n_tokens, {c, first_lanes(shape.head_dim - c)}, out);
  }
}

using ScoreRun = void (*)(const std::uint32_t*, const KvRun&, BlockShape, ScoreTile);
constexpr std::size_t kScoreQueries = 12;
constexpr ScoreRun kScoreRun[kScoreQueries] = {
    score_run<1>, score_run<2>, score_run<3>, score_run<4>,  score_run<5>,  score_run<6>,
    score_run<7>, score_run<8>, score_run<9>, score_run<10>, score_run<11>, score_run<12>};

// Six queries of four vectors fill the registers.
constexpr std::size_t kAddQueries = 6;
using AddRun = void (*)(const std::uint32_t*, const KvRun&, BlockShape, std::uint32_t, float*);
constexpr AddRun kAddRun[kAddQueries] = {add_run<1>, add_run<2>, add_run<3>,
                                         add_run<4>, add_run<5>, add_run<6>};

}  // namespace

void run_scores_bf16(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  alignas(64) std::uint32_t packed[kScoreQueries * kQueryPairs];
  while (scores.n_q > 0) {
    const std::size_t n = scores.n_q < kScoreQueries ? scores.n_q : kScoreQueries;
    for (std::size_t i = 0; i < n; ++i) {
      pack(q + i * shape.head_dim, shape.head_dim, packed + i * kQueryPairs);
    }
    kScoreRun[n - 1](packed, k, shape, {scores.data, n, scores.stride});
    q += n * shape.head_dim;
    scores.data += n * scores.stride;
    scores.n_q -= n;
  }
}

void run_accumulate_bf16(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out) {
  alignas(64) std::uint32_t packed[kAddQueries * kWeightPairs];
  const std::size_t chunk_blocks = kMaxChunkTokens / shape.block_tokens;
  const auto chunk_tokens = static_cast<std::uint32_t>(chunk_blocks * shape.block_tokens);
  while (weights.n_q > 0) {
    // In equal parts: seven queries as four and three, not as six and a lonely one.
    const std::size_t n_parts = (weights.n_q + kAddQueries - 1) / kAddQueries;
    const std::size_t n_q = (weights.n_q + n_parts - 1) / n_parts;
    KvRun left = v;
    for (std::uint32_t t = 0; t < n_tokens; t += chunk_tokens) {
      const std::uint32_t n = n_tokens - t < chunk_tokens ? n_tokens - t : chunk_tokens;
      for (std::size_t i = 0; i < n_q; ++i) {
        pack(weights.data + i * weights.stride + t, n, packed + i * kWeightPairs);
      }
      kAddRun[n_q - 1](packed, left, shape, n, out);
      if (n_tokens - t <= chunk_tokens) break;
      left.parts += chunk_blocks;
      left.n_blocks -= chunk_blocks;
    }
    weights.data += n_q * weights.stride;
    weights.n_q -= n_q;
    out += n_q * shape.head_dim;
  }
}

}  // namespace larder::simd::avx512
