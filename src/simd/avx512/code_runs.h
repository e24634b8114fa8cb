// What the kernels over runs of blocks of codes have in common. Everything is inlined; nothing here
// is compiled on its own.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "simd/run_distance.h"
#include "simd/simd.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kLanes = 16;  // tokens of a K tile; channels of a vector
constexpr std::size_t kMaxRunTokens = 512;
constexpr std::size_t kQueries =
    4;  // whose sums fit in registers beside two tiles, or four vectors
/// Pairs of one query, or of its weights, begin this many dwords after those of the one before.
constexpr std::size_t kQueryPairs = kMaxHeadDim / 2 + kLanes;
constexpr std::size_t kWeightPairs = kMaxRunTokens / 2 + kLanes;
constexpr __mmask16 kAll = 0xffff;

inline __m512bh as_bf16(__m512i pairs) { return reinterpret_cast<__m512bh>(pairs); }
inline __m512i as_pairs(__m512bh pairs) { return reinterpret_cast<__m512i>(pairs); }
inline __m512bh broadcast(const std::uint32_t* pair) {
  return as_bf16(_mm512_set1_epi32(static_cast<int>(*pair)));
}

/// Scales stand behind the codes, which are fetched as they are read: bytes [begin, end) of a part.
inline void fetch_scales(const std::byte* part, std::ptrdiff_t ahead, std::size_t begin,
                         std::size_t end) {
  for (std::size_t i = begin; i < end; i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(part + i) + ahead, _MM_HINT_T0);
  }
}

/// out[i] = elements 2 i and 2 i + 1 of x as bf16; n a multiple of 16. Writes whole vectors.
inline void pack_pairs(const float* x, std::size_t n, std::uint32_t* out) {
  for (std::size_t i = 0; i < n; i += 2 * kLanes) {
    const __m512 low = _mm512_loadu_ps(x + i);
    const __mmask16 rest = n - i > kLanes ? kAll : __mmask16{0};
    const __m512 high = _mm512_maskz_loadu_ps(rest, x + i + kLanes);
    _mm512_storeu_si512(out + i / 2, as_pairs(_mm512_cvtne2ps_pbh(high, low)));
  }
}

/// Scores of n packed queries are made by the n-th of kQueries functions.
using ScoreRun = void (*)(const CodeBook&, const std::uint32_t*, const KvRun&, BlockShape,
                          ScoreTile);

/// Scores of any number of queries [scores.n_q, head_dim], kQueries of them at a time.
inline void score_packed(const ScoreRun (&run)[kQueries], const CodeBook& book, const float* q,
                         const KvRun& k, BlockShape shape, ScoreTile scores) {
  alignas(64) std::uint32_t packed[kQueries * kQueryPairs];
  while (scores.n_q > 0) {
    const std::size_t n = scores.n_q < kQueries ? scores.n_q : kQueries;
    for (std::size_t i = 0; i < n; ++i) {
      pack_pairs(q + i * shape.head_dim, shape.head_dim, packed + i * kQueryPairs);
    }
    run[n - 1](book, packed, k, shape, scores);
    q += n * shape.head_dim;
    scores.data += n * scores.stride;
    scores.n_q -= n;
  }
}

}  // namespace
}  // namespace larder::simd::avx512
