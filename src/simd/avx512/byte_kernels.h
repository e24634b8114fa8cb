// Runs of lines of bytes by VPDPBUSD: a lane is a token of K or a channel of V, an instruction four
// bytes of it. The instruction takes one factor without a sign: rows have 128 added, which the
// sums' starts make up for. Everything is inlined; nothing here is compiled on its own.
#pragma once

#include <array>
#include <utility>

#include "simd/avx512/byte_lines.h"
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

/// Groups of lines of kT tiles of 16 lanes, group g of tile t at data + t * tile + g * group.
struct Groups {
  const std::byte* data;
  std::size_t tile, group;
  std::ptrdiff_t ahead;  // to what is fetched meanwhile
};

template <int kQ, int kT>
using Sums = __m512i[kQ][kT][2];

/// sums += products of the `n` lines from `first` on of kQ rows of integers.
template <int kQ, int kT, class Reader>
[[gnu::always_inline]] inline void add_products(const Reader& reader, const Integers& x,
                                                std::size_t first, std::size_t n,
                                                const Groups& groups, Sums<kQ, kT>& sums) {
  const std::byte* at = groups.data;
  for (std::size_t s = first; s < first + n; s += Reader::kLines, at += groups.group) {
    __m512i words[kT][Reader::kWords];
    LARDER_UNROLL
    for (int t = 0; t < kT; ++t) {
      load_words(at + t * groups.tile, words[t]);
      LARDER_UNROLL
      for (int w = 0; w < Reader::kWords; ++w) {
        const auto* const line = reinterpret_cast<const char*>(at + t * groups.tile + w * kLine);
        _mm_prefetch(line + groups.ahead, _MM_HINT_T1);
      }
    }
    for_each_of(
        std::make_integer_sequence<int, Reader::kLines>{}, [&](auto l) __attribute__((
                                                               always_inline)) {
          __m512i rows[kT];
          LARDER_UNROLL
          for (int t = 0; t < kT; ++t) rows[t] = reader.template line<l()>(words[t]);
          LARDER_UNROLL
          for (int i = 0; i < kQ; ++i) {
            int four[2];
            __builtin_memcpy(&four[0], x.high[i] + 4 * (s + l()), 4);
            __builtin_memcpy(&four[1], x.low[i] + 4 * (s + l()), 4);
            LARDER_UNROLL
            for (int t = 0; t < kT; ++t) {
              sums[i][t][0] =
                  _mm512_dpbusd_epi32(sums[i][t][0], rows[t], _mm512_set1_epi32(four[0]));
              sums[i][t][1] =
                  _mm512_dpbusd_epi32(sums[i][t][1], rows[t], _mm512_set1_epi32(four[1]));
            }
          }
        });
  }
}

/// Of a part; where its scales begin.
template <class Reader>
[[gnu::always_inline]] inline std::size_t row_bytes(BlockShape shape) {
  return bytes_of_rows(shape) * Reader::kBits / 8;
}
template <class Reader>
[[gnu::always_inline]] inline std::size_t part_bytes(BlockShape shape) {
  return row_bytes<Reader>(shape) + 2 * std::size_t{shape.block_tokens};
}

/// K tiles from row `t` of a part on.
template <int kQ, int kT, class Reader>
[[gnu::always_inline]] inline void score_tiles(const Reader& reader, const Integers& q,
                                               const std::byte* part, std::size_t t,
                                               std::ptrdiff_t ahead, BlockShape shape, float* out,
                                               std::size_t stride) {
  constexpr std::size_t kGroupBytes = std::size_t{Reader::kWords} * kLine;
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
  add_products<kQ, kT>(reader, q, 0, head_dim / 4,
                       {part + t * head_dim * Reader::kBits / 8,
                        kLanes * head_dim * Reader::kBits / 8, kGroupBytes, ahead},
                       sums);
  LARDER_UNROLL
  for (int j = 0; j < kT; ++j) {
    const std::byte* const halves = part + row_bytes<Reader>(shape) + 2 * (t + j * kLanes);
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

template <class Reader>
[[gnu::always_inline]] inline void fetch_scales(const std::byte* part, std::ptrdiff_t ahead,
                                                BlockShape shape) {
  for (std::size_t i = row_bytes<Reader>(shape); i < part_bytes<Reader>(shape); i += kLine) {
    _mm_prefetch(reinterpret_cast<const char*>(part + i) + ahead, _MM_HINT_T1);
  }
}

template <class Reader, int kQ>
void score_run(const Reader& reader, const Integers& q, const KvRun& k, BlockShape shape,
               ScoreTile scores) {
  constexpr int kT = kTiles<kQ>;
  const std::size_t n = shape.block_tokens;
  float* out = scores.data;
  for (std::size_t b = 0; b < k.n_blocks; ++b, out += n) {
    const std::byte* const part = k.parts[b];
    const std::ptrdiff_t ahead = distance_ahead(k, b, part_bytes<Reader>(shape));
    fetch_scales<Reader>(part, ahead, shape);
    std::size_t t = 0;
    for (; t + kT * kLanes <= n; t += kT * kLanes) {
      score_tiles<kQ, kT>(reader, q, part, t, ahead, shape, out + t, scores.stride);
    }
    if (t < n) score_tiles<kQ, 1>(reader, q, part, t, ahead, shape, out + t, scores.stride);
  }
}

/// Sums of channels between blocks: [tile][query][high and low].
using Totals = __m512i[kMaxHeadDim / kLanes * kMostQueries * 2];

/// A part's rows, whose weights begin at line `first`, for channel tiles from `tile` on.
template <int kQ, int kT, class Reader>
[[gnu::always_inline]] inline void add_tiles(const Reader& reader, const Integers& weights,
                                             std::size_t first, const std::byte* part,
                                             std::ptrdiff_t ahead, std::size_t tile,
                                             BlockShape shape, __m512i* totals) {
  Sums<kQ, kT> sums;
  __m512i* const at = totals + tile * kQ * 2;
  const std::size_t apart = Reader::tile_v(shape);
  LARDER_UNROLL
  for (int i = 0; i < kQ * kT * 2; ++i) sums[i / 2 % kQ][i / 2 / kQ][i % 2] = at[i];
  add_products<kQ, kT>(reader, weights, first, shape.block_tokens / 4,
                       {part + tile * apart, apart, Reader::group_v(shape), ahead}, sums);
  LARDER_UNROLL
  for (int i = 0; i < kQ * kT * 2; ++i) at[i] = sums[i / 2 % kQ][i / 2 / kQ][i % 2];
}

/// Blocks of at most kByteRun tokens, and their rounded weights.
template <class Reader, int kQ>
void add_blocks(const Reader& reader, const Integers& weights, const KvRun& v, std::size_t n_blocks,
                BlockShape shape, float* out) {
  constexpr std::size_t kT = kTiles<kQ>;
  const std::size_t n_tiles = shape.head_dim / kLanes;
  Totals totals;
  for (std::size_t i = 0; i < n_tiles * kQ * 2; ++i) {
    totals[i] = _mm512_set1_epi32(weights.starts[i / 2 % kQ][i % 2]);
  }
  for (std::size_t b = 0; b < n_blocks; ++b) {
    const std::byte* const part = v.parts[b];
    const std::ptrdiff_t ahead = distance_ahead(v, b, part_bytes<Reader>(shape));
    const std::size_t first = b * shape.block_tokens / 4;
    std::size_t tile = 0;
    for (; tile + kT <= n_tiles; tile += kT) {
      add_tiles<kQ, kT>(reader, weights, first, part, ahead, tile, shape, totals);
    }
    if (tile < n_tiles) {
      add_tiles<kQ, 1>(reader, weights, first, part, ahead, tile, shape, totals);
    }
  }
  for (std::size_t i = 0; i < n_tiles * kQ; ++i) {
    float* const to = out + i % kQ * shape.head_dim + i / kQ * kLanes;
    const __m512 unit = _mm512_set1_ps(weights.units[i % kQ]);
    const __m512 sum = join_few(totals[2 * i], totals[2 * i + 1]);
    _mm512_storeu_ps(to, _mm512_fmadd_ps(sum, unit, _mm512_loadu_ps(to)));
  }
}

template <class Reader>
using ScoreRun = void (*)(const Reader&, const Integers&, const KvRun&, BlockShape, ScoreTile);
template <class Reader>
using AddBlocks = void (*)(const Reader&, const Integers&, const KvRun&, std::size_t, BlockShape,
                           float*);
using Queries = std::make_integer_sequence<int, static_cast<int>(kMostQueries)>;
template <class Reader, int... kQ>
constexpr std::array<ScoreRun<Reader>, kMostQueries> score_runs(std::integer_sequence<int, kQ...>) {
  return {score_run<Reader, kQ + 1>...};
}
template <class Reader, int... kQ>
constexpr std::array<AddBlocks<Reader>, kMostQueries> add_runs(std::integer_sequence<int, kQ...>) {
  return {add_blocks<Reader, kQ + 1>...};
}

/// Table::run_scores_bytes, of parts that `reader` reads.
template <class Reader>
void run_scores(const Reader& reader, const float* q, const KvRun& k, BlockShape shape,
                ScoreTile scores) {
  static constexpr auto kRuns = score_runs<Reader>(Queries{});
  Integers integers;
  for_each_few<kMostQueries>(scores.n_q, [&](std::size_t n, std::size_t first) {
    for (std::size_t i = 0; i < n; ++i) {
      const float* const row = q + (first + i) * shape.head_dim;
      integers.set(i, rounding_of(row, shape.head_dim), row, shape.head_dim);
    }
    kRuns[n - 1](reader, integers, k, shape,
                 {scores.data + first * scores.stride, n, scores.stride});
  });
}

/// Table::run_accumulate_bytes, of parts that `reader` reads.
template <class Reader>
void run_accumulate(const Reader& reader, ScoreTile weights, const KvRun& v, BlockShape shape,
                    std::uint32_t n_tokens, float* out) {
  static constexpr auto kRuns = add_runs<Reader>(Queries{});
  alignas(64) float scaled[kByteRun];
  Integers integers;
  for_each_byte_run<read_halves>(
      v, shape, row_bytes<Reader>(shape), n_tokens,
      [&](const KvRun& run, std::size_t n, const float* scales, std::size_t first) {
        const std::size_t n_rows = n * shape.block_tokens;
        for_each_few<kMostQueries>(weights.n_q, [&](std::size_t n_q, std::size_t first_q) {
          for (std::size_t i = 0; i < n_q; ++i) {
            const float* const row = weights.data + (first_q + i) * weights.stride + first;
            integers.set(i, rounding_of_products(row, scales, n_rows, scaled), scaled, n_rows);
          }
          kRuns[n_q - 1](reader, integers, run, n, shape, out + first_q * shape.head_dim);
        });
      });
}

}  // namespace
}  // namespace larder::simd::avx512
