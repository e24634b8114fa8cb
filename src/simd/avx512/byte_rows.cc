// Runs of byte parts by VPDPBUSD: a lane is a token of K or a channel of V, an instruction four
// bytes of it. The instruction takes one factor without a sign: rows have 128 added, which the
// sums' starts make up for.
#include "simd/avx512/byte_rows.h"

#include <array>
#include <utility>

#include "simd/avx512/byte_rounding.h"
#include "simd/avx512/codes.h"
#include "simd/byte_runs.h"
#include "simd/run_distance.h"
#include "simd/unroll.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kLanes = 16;
constexpr std::size_t kMostQueries = 8;
constexpr std::size_t kLine = 64;
// Rows begin so many bytes apart: no power of two, so that they do not compete for cache sets.
constexpr std::size_t kStride = kMaxHeadDim + kByteStep;
static_assert(kByteRun <= kMaxHeadDim);

/// Rows of integers: queries, or weights of at most kByteRun tokens.
struct Integers {
  alignas(64) std::int8_t high[kMostQueries][kStride], low[kMostQueries][kStride];
  float units[kMostQueries];
  std::int32_t starts[kMostQueries][2];  // of sums: minus what the 128 of rows add

  void set(std::size_t i, const Rounding& rounding, const float* x, std::size_t n) {
    rounding.split(x, n, high[i], low[i]);
    units[i] = rounding.unit;
    starts[i][0] = start(high[i], n);
    starts[i][1] = start(low[i], n);
  }

 private:
  static std::int32_t start(const std::int8_t* bytes, std::size_t n) {
    __m512i sum = _mm512_setzero_si512();
    for (std::size_t i = 0; i < n; i += kByteStep) {
      sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(-128), _mm512_load_si512(bytes + i));
    }
    return -_mm512_reduce_add_epi32(sum);
  }
};

/// Lines of kT tiles of 16 lanes, the four bytes of step s of tile t at data + t * tile + s * step.
struct Lines {
  const std::byte* data;
  std::size_t tile, step;
  std::ptrdiff_t ahead;  // to what is fetched meanwhile
};

template <int kQ, int kT>
using Sums = __m512i[kQ][kT][2];

/// sums += products of steps [first, first + n) of kQ rows of integers.
template <int kQ, int kT>
[[gnu::always_inline]] inline void add_products(const Integers& x, std::size_t first, std::size_t n,
                                                const Lines& lines, Sums<kQ, kT>& sums) {
  const std::byte* at = lines.data;
  for (std::size_t s = first; s < first + n; ++s, at += lines.step) {
    __m512i rows[kT];
    LARDER_UNROLL
    for (int t = 0; t < kT; ++t) {
      const std::byte* const line = at + t * lines.tile;
      rows[t] = _mm512_xor_si512(_mm512_loadu_si512(line), _mm512_set1_epi8(-128));
      _mm_prefetch(reinterpret_cast<const char*>(line) + lines.ahead, _MM_HINT_T1);
    }
    LARDER_UNROLL
    for (int i = 0; i < kQ; ++i) {
      int four[2];
      __builtin_memcpy(&four[0], x.high[i] + 4 * s, 4);
      __builtin_memcpy(&four[1], x.low[i] + 4 * s, 4);
      LARDER_UNROLL
      for (int t = 0; t < kT; ++t) {
        sums[i][t][0] = _mm512_dpbusd_epi32(sums[i][t][0], rows[t], _mm512_set1_epi32(four[0]));
        sums[i][t][1] = _mm512_dpbusd_epi32(sums[i][t][1], rows[t], _mm512_set1_epi32(four[1]));
      }
    }
  }
}

/// K tiles from row `t` of a part on.
template <int kQ, int kT>
[[gnu::always_inline]] inline void score_tiles(const Integers& q, const std::byte* part,
                                               std::size_t t, std::ptrdiff_t ahead,
                                               BlockShape shape, float* out, std::size_t stride) {
  const std::size_t head_dim = shape.head_dim;
  Sums<kQ, kT> sums;
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    LARDER_UNROLL
    for (int j = 0; j < kT; ++j) {
      sums[i][j][0] = _mm512_set1_epi32(q.starts[i][0]);
      sums[i][j][1] = _mm512_set1_epi32(q.starts[i][1]);
    }
  }
  add_products<kQ, kT>(q, 0, head_dim / 4, {part + t * head_dim, kLanes * head_dim, kLine, ahead},
                       sums);
  LARDER_UNROLL
  for (int j = 0; j < kT; ++j) {
    const std::byte* const halves = part + bytes_of_rows(shape) + 2 * (t + j * kLanes);
    const __m512 scales = _mm512_maskz_cvtph_ps(
        __mmask16{0xffff}, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves)));
    LARDER_UNROLL
    for (int i = 0; i < kQ; ++i) {
      const __m512 sum = head_dim <= kByteRun ? join_few(sums[i][j][0], sums[i][j][1])
                                              : join(sums[i][j][0], sums[i][j][1]);
      const __m512 score = _mm512_mul_ps(_mm512_mul_ps(sum, _mm512_set1_ps(q.units[i])), scales);
      _mm512_storeu_ps(out + i * stride + j * kLanes, score);
    }
  }
}

/// Tiles at once, so that sums fill half of the registers.
template <int kQ>
constexpr int kTiles = kQ <= 4 ? 2 : 1;

[[gnu::always_inline]] inline void fetch_scales(const std::byte* part, std::ptrdiff_t ahead,
                                                BlockShape shape) {
  for (std::size_t i = bytes_of_rows(shape); i < byte_part_bytes(shape); i += kLine) {
    _mm_prefetch(reinterpret_cast<const char*>(part + i) + ahead, _MM_HINT_T1);
  }
}

template <int kQ>
void score_run(const Integers& q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  constexpr int kT = kTiles<kQ>;
  const std::size_t n = shape.block_tokens;
  float* out = scores.data;
  for (std::size_t b = 0; b < k.n_blocks; ++b, out += n) {
    const std::byte* const part = k.parts[b];
    const std::ptrdiff_t ahead = distance_ahead(k, b, byte_part_bytes(shape));
    fetch_scales(part, ahead, shape);
    std::size_t t = 0;
    for (; t + kT * kLanes <= n; t += kT * kLanes) {
      score_tiles<kQ, kT>(q, part, t, ahead, shape, out + t, scores.stride);
    }
    if (t < n) score_tiles<kQ, 1>(q, part, t, ahead, shape, out + t, scores.stride);
  }
}

/// Sums of channels between blocks: [tile][query][high and low].
using Totals = __m512i[kMaxHeadDim / kLanes * kMostQueries * 2];

/// A part's rows, whose weights begin at step `first`, for channel tiles from `tile` on.
template <int kQ, int kT>
[[gnu::always_inline]] inline void add_tiles(const Integers& weights, std::size_t first,
                                             const std::byte* part, std::ptrdiff_t ahead,
                                             std::size_t tile, BlockShape shape, __m512i* totals) {
  Sums<kQ, kT> sums;
  __m512i* const at = totals + tile * kQ * 2;
  LARDER_UNROLL
  for (int i = 0; i < kQ * kT * 2; ++i) sums[i / 2 % kQ][i / 2 / kQ][i % 2] = at[i];
  add_products<kQ, kT>(weights, first, shape.block_tokens / 4,
                       {part + tile * kLine, kLine, std::size_t{shape.head_dim} * 4, ahead}, sums);
  LARDER_UNROLL
  for (int i = 0; i < kQ * kT * 2; ++i) at[i] = sums[i / 2 % kQ][i / 2 / kQ][i % 2];
}

/// Blocks of at most kByteRun tokens, and their rounded weights.
template <int kQ>
void add_blocks(const Integers& weights, const KvRun& v, std::size_t n_blocks, BlockShape shape,
                float* out) {
  constexpr std::size_t kT = kTiles<kQ>;
  const std::size_t n_tiles = shape.head_dim / kLanes;
  Totals totals;
  for (std::size_t i = 0; i < n_tiles * kQ * 2; ++i) {
    totals[i] = _mm512_set1_epi32(weights.starts[i / 2 % kQ][i % 2]);
  }
  for (std::size_t b = 0; b < n_blocks; ++b) {
    const std::byte* const part = v.parts[b];
    const std::ptrdiff_t ahead = distance_ahead(v, b, byte_part_bytes(shape));
    const std::size_t first = b * shape.block_tokens / 4;
    std::size_t tile = 0;
    for (; tile + kT <= n_tiles; tile += kT) {
      add_tiles<kQ, kT>(weights, first, part, ahead, tile, shape, totals);
    }
    if (tile < n_tiles) add_tiles<kQ, 1>(weights, first, part, ahead, tile, shape, totals);
  }
  for (std::size_t i = 0; i < n_tiles * kQ; ++i) {
    float* const to = out + i % kQ * shape.head_dim + i / kQ * kLanes;
    const __m512 unit = _mm512_set1_ps(weights.units[i % kQ]);
    const __m512 sum = join_few(totals[2 * i], totals[2 * i + 1]);
    _mm512_storeu_ps(to, _mm512_fmadd_ps(sum, unit, _mm512_loadu_ps(to)));
  }
}

using ScoreRun = void (*)(const Integers&, const KvRun&, BlockShape, ScoreTile);
using AddBlocks = void (*)(const Integers&, const KvRun&, std::size_t, BlockShape, float*);
using Queries = std::make_integer_sequence<int, static_cast<int>(kMostQueries)>;
template <int... kQ>
constexpr std::array<ScoreRun, kMostQueries> score_runs(std::integer_sequence<int, kQ...>) {
  return {score_run<kQ + 1>...};
}
template <int... kQ>
constexpr std::array<AddBlocks, kMostQueries> add_runs(std::integer_sequence<int, kQ...>) {
  return {add_blocks<kQ + 1>...};
}

}  // namespace

void run_scores_bytes(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  static constexpr auto kRuns = score_runs(Queries{});
  Integers integers;
  for_each_few<kMostQueries>(scores.n_q, [&](std::size_t n, std::size_t first) {
    for (std::size_t i = 0; i < n; ++i) {
      const float* const row = q + (first + i) * shape.head_dim;
      integers.set(i, rounding_of(row, shape.head_dim), row, shape.head_dim);
    }
    kRuns[n - 1](integers, k, shape, {scores.data + first * scores.stride, n, scores.stride});
  });
}

void run_accumulate_bytes(ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out) {
  static constexpr auto kRuns = add_runs(Queries{});
  alignas(64) float scaled[kByteRun];
  Integers integers;
  for_each_byte_run<read_halves>(
      v, shape, n_tokens,
      [&](const KvRun& run, std::size_t n, const float* scales, std::size_t first) {
        const std::size_t n_rows = n * shape.block_tokens;
        for_each_few<kMostQueries>(weights.n_q, [&](std::size_t n_q, std::size_t first_q) {
          for (std::size_t i = 0; i < n_q; ++i) {
            const float* const row = weights.data + (first_q + i) * weights.stride + first;
            integers.set(i, rounding_of_products(row, scales, n_rows, scaled), scaled, n_rows);
          }
          kRuns[n_q - 1](integers, run, n, shape, out + first_q * shape.head_dim);
        });
      });
}

}  // namespace larder::simd::avx512
