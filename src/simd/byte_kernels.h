// Runs of lines of bytes times rows of integers (simd/byte_rows.h), for sets that read them in
// registers. Templates over functions of one set, so that nothing is shared between sets.
//
// A set's arithmetic has
//   kLanes, Vector        lanes of 32 bits of a vector, 16 or 8: a tile has 16
//   kParts                vectors that a sum consists of
//   kMostQueries          whose sums fit in registers beside what is read, and
//   kTogether<kQ>         vectors of lanes that are worked on at once with kQ of them
//   kMostProducts         of a sum, at least kByteRun
//   Rows<Reader>          rows of integers: set(i, x, n) rounds x, set_products(i, x, y, n) their
//                         products; units[i]; start(i, part) is where sums begin
//   add_group(reader, rows, s, groups, sums)   adds products of a group, lines s and following
//   total(sum, are_few)   the floats next to a sum, of at most kByteRun products where they are few
//   total(sum, rest)      those next to two, of more than kMostProducts together
//   scales(halves)        of kLanes rows; load, store, splat, fma of floats
//   read_halves           the set's, of any number of rows
//   fetch(address)        asks for a line
//   Codes<n>, kAdds128    reader of codes of n bits that are bytes; whether with 128 added
// and a reader of lines
//   kBits, kLines, kBytes of an element; lines of a group; of a group where it is stored
//   tile_v, group_v       where tiles of 16 channels of V and their groups stand: so far apart
#pragma once

#include <array>
#include <utility>

#include "simd/by_number.h"
#include "simd/byte_runs.h"
#include "simd/run_distance.h"
#include "simd/unroll.h"

namespace larder::simd {
namespace {  // not shared between instruction sets

constexpr std::size_t kTileLanes = 16;
constexpr std::size_t kLine = 64;
static_assert(kByteRun <= kMaxHeadDim);

/// Of a part; where its scales begin.
template <class Reader>
[[gnu::always_inline]] inline std::size_t row_bytes(BlockShape shape) {
  return bytes_of_rows(shape) * Reader::kBits / 8;
}
template <class Reader>
[[gnu::always_inline]] inline std::size_t part_bytes(BlockShape shape) {
  return row_bytes<Reader>(shape) + 2 * std::size_t{shape.block_tokens};
}

/// Vectors of lanes, one behind the other: tiles are `tile` apart, groups of their lines `group`.
struct LaneGroups {
  const std::byte* data;
  std::size_t tile, group;
  std::ptrdiff_t ahead;  // to what is fetched meanwhile; zero where another vector of the tile does
};

template <class A, int kQ, int kT>
using Sums = typename A::Vector[kQ][kT][A::kParts];

/// sums += products of the `n` > 0 lines from `first` on of kQ rows of integers.
template <class A, int kQ, int kT, class Reader>
[[gnu::always_inline]] inline void add_products(const Reader& reader,
                                                const typename A::template Rows<Reader>& x,
                                                std::size_t first, std::size_t n, LaneGroups groups,
                                                Sums<A, kQ, kT>& sums) {
  const std::size_t end = first + n;
  std::size_t s = first;
  do {  // at least once, or GCC keeps two copies of sums
    if (A::kLanes == kTileLanes || groups.ahead != 0) {
      constexpr int kTiles = kT * A::kLanes > kTileLanes ? kT * A::kLanes / kTileLanes : 1;
      LARDER_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        LARDER_UNROLL
        for (int i = 0; i < Reader::kBytes; i += 64) {
          A::fetch(groups.data + t * groups.tile + i + groups.ahead);
        }
      }
    }
    A::template add_group<kQ, kT>(reader, x, s, groups, sums);
    groups.data += groups.group;
    s += Reader::kLines;
  } while (s < end);
}

/// Vector `v` of the lanes of a side, and those behind it.
template <class A>
[[gnu::always_inline]] inline LaneGroups groups_from(LaneGroups all, std::size_t v) {
  const std::size_t lane = v * A::kLanes;
  all.data += lane / kTileLanes * all.tile + lane % kTileLanes * 4;
  if (lane % kTileLanes != 0) all.ahead = 0;
  return all;
}

/// Keys of a part.
struct KeyPart {
  LaneGroups groups;  // of its tiles
  const std::byte* scales;
  std::size_t head_dim;
};

/// Scores of kT vectors of tokens from vector `v` on.
template <class A, int kQ, int kT, class Reader>
[[gnu::always_inline]] inline void score_vectors(const Reader& reader,
                                                 const typename A::template Rows<Reader>& q,
                                                 const KeyPart& k, std::size_t v, ScoreTile out) {
  const std::size_t n_lines = k.head_dim / 4, n_first = least(n_lines, A::kMostProducts / 4);
  LaneGroups groups = groups_from<A>(k.groups, v);
  Sums<A, kQ, kT> sums;
  constexpr int kP = A::kParts;
  LARDER_UNROLL
  for (int i = 0; i < kQ * kT * kP; ++i) {
    sums[i / kP / kT][i / kP % kT][i % kP] = q.start(i / kP / kT, i % kP);
  }
  add_products<A, kQ, kT>(reader, q, 0, n_first, groups, sums);
  const auto put = [&](auto&& total) __attribute__((always_inline)) {
    LARDER_UNROLL
    for (int t = 0; t < kT; ++t) {
      const std::size_t row = (v + t) * A::kLanes;
      const auto of_rows = A::scales(k.scales + 2 * row);
      LARDER_UNROLL
      for (int i = 0; i < kQ; ++i) {
        A::store(out.data + i * out.stride + row, total(i, t) * A::splat(q.units[i]) * of_rows);
      }
    }
  };
  if constexpr (A::kMostProducts < kMaxHeadDim) {
    if (n_first < n_lines) {
      Sums<A, kQ, kT> rest = {};
      groups.data += n_first / Reader::kLines * groups.group;
      add_products<A, kQ, kT>(reader, q, n_first, n_lines - n_first, groups, rest);
      return put([&](int i, int t) { return A::total(sums[i][t], rest[i][t]); });
    }
  }
  put([&](int i, int t) { return A::total(sums[i][t], k.head_dim <= kByteRun); });
}

template <class A, class Reader, int kQ>
void score_run(const Reader& reader, const typename A::template Rows<Reader>& q, const KvRun& k,
               BlockShape shape, ScoreTile scores) {
  constexpr int kT = A::template kTogether<kQ>;
  const std::size_t n_vectors = shape.block_tokens / A::kLanes;
  const std::size_t tile = row_bytes<Reader>({kTileLanes, shape.head_dim});
  for (std::size_t b = 0; b < k.n_blocks; ++b, scores.data += shape.block_tokens) {
    const std::byte* const part = k.parts[b];
    const std::ptrdiff_t ahead = distance_ahead(k, b, part_bytes<Reader>(shape));
    const std::byte* const scales = part + row_bytes<Reader>(shape);
    for (std::size_t i = 0; i < 2 * std::size_t{shape.block_tokens}; i += kLine) {
      A::fetch(scales + i + ahead);
    }
    const KeyPart keys{{part, tile, Reader::kBytes, ahead}, scales, shape.head_dim};
    std::size_t v = 0;
    for (; v + kT <= n_vectors; v += kT) score_vectors<A, kQ, kT>(reader, q, keys, v, scores);
    if (v < n_vectors) score_vectors<A, kQ, 1>(reader, q, keys, v, scores);
  }
}

/// A part's rows, whose weights begin at line `first`, for kT vectors of channels, whose sums so
/// far are `totals` [kT][kQ][kParts].
template <class A, int kQ, int kT, class Reader>
[[gnu::always_inline]] inline void add_vectors(const Reader& reader,
                                               const typename A::template Rows<Reader>& weights,
                                               std::size_t first, std::size_t n,
                                               const LaneGroups& groups,
                                               typename A::Vector* totals) {
  Sums<A, kQ, kT> sums;
  constexpr int kP = A::kParts;
  LARDER_UNROLL
  for (int i = 0; i < kQ * kT * kP; ++i) sums[i / kP % kQ][i / kP / kQ][i % kP] = totals[i];
  add_products<A, kQ, kT>(reader, weights, first, n, groups, sums);
  LARDER_UNROLL
  for (int i = 0; i < kQ * kT * kP; ++i) totals[i] = sums[i / kP % kQ][i / kP / kQ][i % kP];
}

/// At most kByteRun tokens, and their rounded weights.
template <class A, class Reader, int kQ>
void add_blocks(const Reader& reader, const typename A::template Rows<Reader>& weights,
                const KvRun& v, std::size_t n_tokens, BlockShape shape, float* out) {
  constexpr int kT = A::template kTogether<kQ>, kSums = kQ * A::kParts;
  const std::size_t n_vectors = shape.head_dim / A::kLanes, n_of_block = shape.block_tokens / 4;
  typename A::Vector totals[kMaxHeadDim / A::kLanes * kSums];
  for (std::size_t i = 0; i < n_vectors * kSums; ++i) {
    totals[i] =
        weights.start(static_cast<int>(i / A::kParts % kQ), static_cast<int>(i % A::kParts));
  }
  for (std::size_t b = 0, first = 0; first < n_tokens / 4; ++b, first += n_of_block) {
    const std::size_t n_lines = least(n_of_block, n_tokens / 4 - first);
    const std::ptrdiff_t ahead = distance_ahead(v, b, part_bytes<Reader>(shape));
    const LaneGroups groups{v.parts[b], Reader::tile_v(shape), Reader::group_v(shape), ahead};
    std::size_t c = 0;
    for (; c + kT <= n_vectors; c += kT) {
      add_vectors<A, kQ, kT>(reader, weights, first, n_lines, groups_from<A>(groups, c),
                             totals + c * kSums);
    }
    if (c < n_vectors) {
      add_vectors<A, kQ, 1>(reader, weights, first, n_lines, groups_from<A>(groups, c),
                            totals + c * kSums);
    }
  }
  for (std::size_t i = 0; i < n_vectors * kQ; ++i) {
    typename A::Vector sum[A::kParts];
    for (int p = 0; p < A::kParts; ++p) sum[p] = totals[i * A::kParts + p];
    float* const to = out + i % kQ * shape.head_dim + i / kQ * A::kLanes;
    A::store(to, A::fma(A::total(sum, true), A::splat(weights.units[i % kQ]), A::load(to)));
  }
}

template <class A, class Reader>
using ScoreRun = void (*)(const Reader&, const typename A::template Rows<Reader>&, const KvRun&,
                          BlockShape, ScoreTile);
template <class A, class Reader>
using AddBlocks = void (*)(const Reader&, const typename A::template Rows<Reader>&, const KvRun&,
                           std::size_t, BlockShape, float*);
template <class A, class Reader, int... kQ>
constexpr std::array<ScoreRun<A, Reader>, sizeof...(kQ)> score_runs(
    std::integer_sequence<int, kQ...>) {
  return {score_run<A, Reader, kQ + 1>...};
}
template <class A, class Reader, int... kQ>
constexpr std::array<AddBlocks<A, Reader>, sizeof...(kQ)> add_runs(
    std::integer_sequence<int, kQ...>) {
  return {add_blocks<A, Reader, kQ + 1>...};
}

/// Table::run_scores_bytes, of parts that `reader` reads.
template <class A, class Reader>
void run_scores(const Reader& reader, const float* q, const KvRun& k, BlockShape shape,
                ScoreTile scores) {
  static constexpr auto kRuns =
      score_runs<A, Reader>(std::make_integer_sequence<int, A::kMostQueries>{});
  typename A::template Rows<Reader> rows;
  for_each_few<A::kMostQueries>(scores.n_q, [&](std::size_t n, std::size_t first) {
    for (std::size_t i = 0; i < n; ++i) {
      rows.set(i, q + (first + i) * shape.head_dim, shape.head_dim);
    }
    kRuns[n - 1](reader, rows, k, shape, {scores.data + first * scores.stride, n, scores.stride});
  });
}

/// Table::run_accumulate_bytes, of parts that `reader` reads.
template <class A, class Reader>
void run_accumulate(const Reader& reader, ScoreTile weights, const KvRun& v, BlockShape shape,
                    std::uint32_t n_tokens, float* out) {
  static constexpr auto kRuns =
      add_runs<A, Reader>(std::make_integer_sequence<int, A::kMostQueries>{});
  typename A::template Rows<Reader> rows;
  for_each_byte_run<A::read_halves>(
      v, shape, row_bytes<Reader>(shape), n_tokens,
      [&](const KvRun& run, std::size_t n, const float* scales, std::size_t first) {
        for_each_few<A::kMostQueries>(weights.n_q, [&](std::size_t n_q, std::size_t first_q) {
          for (std::size_t i = 0; i < n_q; ++i) {
            const float* const row = weights.data + (first_q + i) * weights.stride + first;
            rows.set_products(i, row, scales, n);
          }
          kRuns[n_q - 1](reader, rows, run, n, shape, out + first_q * shape.head_dim);
        });
      });
}

// The same of codes that are bytes.

template <class A>
void score_codes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                 ScoreTile scores) {
  by_byte_bits(book.bits, [&](auto n) {
    run_scores<A>(typename A::template Codes<n()>(book, A::kAdds128), q, k, shape, scores);
  });
}

template <class A>
void accumulate_codes(const CodeBook& book, ScoreTile weights, const KvRun& v, BlockShape shape,
                      std::uint32_t n_tokens, float* out) {
  by_byte_bits(book.bits, [&](auto n) {
    const typename A::template Codes<n()> reader(book, A::kAdds128);
    run_accumulate<A>(reader, weights, v, shape, n_tokens, out);
  });
}

/// Table::unpack_codes_k and its like, tile by tile: unpack_lines(reader, codes, n, to, step) of a
/// set unpacks the next n lines to places `step` apart, and returns where they end.
template <class A>
void unpack_codes(const CodeBook& book, const std::byte* codes, BlockShape shape, bool is_key,
                  std::byte* bytes) {
  const std::size_t n_tiles = (is_key ? shape.block_tokens : shape.head_dim) / kTileLanes;
  const std::size_t n_lines = (is_key ? shape.head_dim : shape.block_tokens) / 4;
  const std::size_t tile = is_key ? n_lines * kLine : kLine;  // of V they stand side by side
  const std::size_t step = is_key ? kLine : std::size_t{shape.head_dim} * 4;
  by_byte_bits(book.bits, [&](auto n) {
    const typename A::template Codes<n()> reader(book, false);
    for (std::size_t t = 0; t < n_tiles; ++t) {
      codes = unpack_lines(reader, codes, n_lines, bytes + t * tile, step);
    }
  });
}

}  // namespace
}  // namespace larder::simd
