// Runs of byte parts, or of what is unpacked to their lines, in tiles; arithmetic in
// simd/byte_rows.h. Everything is inlined; nothing here is compiled on its own.
//
// A source, of parts of one shape, has
//   kAhead                                how far ahead bytes are asked for
//   row_bytes(), part_bytes()             of a part; where its scales begin
//   keys(part, t, ahead, slot)            the K tile from row `t` on, unpacked to one of kKeySlots
//                                         where that is to be
//   together()                            blocks of V that are multiplied at once
//   channels<n>(v, b, n_blocks, tile)     n tiles of channels from `tile` on, of the blocks from b
//                                         on that are multiplied at once, or as many as there are
#pragma once

#include "simd/amx/byte_tiles.h"
#include "simd/avx512/codes.h"
#include "simd/byte_runs.h"
#include "simd/run_distance.h"

namespace larder::simd::amx {
namespace {

constexpr std::size_t kKeySlots = 2 * ByteQueries<1>::kMaxKeys;

template <int kA, class Source>
void score_run(Source& source, const ByteQueries<kA>& queries, const KvRun& k, BlockShape shape,
               ScoreTile scores) {
  using Queries = ByteQueries<kA>;
  constexpr int kMaxKeys = Queries::kMaxKeys;
  // Tiles are multiplied while the sums of those before are scaled.
  alignas(64) std::int32_t sums[2][kMaxKeys * Queries::kSumsOfTile];
  ByteKeys keys[2][kMaxKeys];
  int n = 0, n_before = 0;
  std::size_t turn = 0;
  float* out = scores.data;
  const auto work = [&] {
    for_each_tile<kMaxKeys>([&](auto t) {
      if (n == t() + 1) queries.template multiply<t() + 1>(keys[turn], sums[turn]);
    });
    for_each_tile<kMaxKeys>([&](auto t) {
      if (n_before != t() + 1) return;
      queries.template scale<t() + 1>(keys[1 - turn], sums[1 - turn], out, scores.stride);
      out += (t() + 1) * kLanes;
    });
    n_before = n;
    n = 0;
    turn = 1 - turn;
  };
  for (std::size_t b = 0; b < k.n_blocks; ++b) {
    const std::byte* const part = k.parts[b];
    const std::ptrdiff_t ahead = distance_ahead(k, b, source.part_bytes(), Source::kAhead);
    fetch_second_level(part + source.row_bytes(), ahead, (shape.block_tokens * 2 + 63) / 64);
    for (std::size_t t = 0; t < shape.block_tokens; t += kLanes) {
      keys[turn][n] = source.keys(part, t, ahead, turn * kMaxKeys + static_cast<std::size_t>(n));
      ++n;
      if (n == kMaxKeys) work();
    }
  }
  if (n > 0) work();
  work();
}

/// At most kByteRun tokens, and their rounded weights.
template <int kA, class Source>
void add_blocks(Source& source, const ByteWeights<kA>& weights, const KvRun& v,
                std::size_t n_tokens, BlockShape shape, float* out) {
  const std::size_t n_blocks = (n_tokens + shape.block_tokens - 1) / shape.block_tokens;
  const std::size_t n_tiles = shape.head_dim / kLanes;
  for_each_pass<ByteWeights<kA>::kMaxSums>(n_tiles, [&](auto n_now, std::size_t tile) {
    weights.template begin<n_now()>();
    for (std::size_t b = 0; b < n_blocks; b += source.together()) {
      const std::size_t first = b * shape.block_tokens;
      weights.template add<n_now()>(first, n_tokens - first,
                                    source.template channels<n_now()>(v, b, n_blocks, tile));
    }
    weights.template end<n_now()>(out + tile * kLanes, shape.head_dim);
  });
}

/// f(number, the first one) of n queries or rows of weights: few of them, in one A tile, or many.
template <int kA, class F>
void for_each_some(std::size_t n, F&& f) {
  for (std::size_t first = 0; first < n; first += ByteShapes<kA>::kMaxRows) {
    f(n - first < ByteShapes<kA>::kMaxRows ? n - first : ByteShapes<kA>::kMaxRows, first);
  }
}

template <int kA, class Source>
void scores_of(Source& source, const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  for_each_some<kA>(scores.n_q, [&](std::size_t n_q, std::size_t first) {
    const ByteQueries<kA> queries(q + first * shape.head_dim, n_q, shape.head_dim);
    score_run(source, queries, k, shape, {scores.data + first * scores.stride, n_q, scores.stride});
  });
}

template <int kA, class Source>
void accumulate(Source& source, ScoreTile weights, const KvRun& v, BlockShape shape,
                std::uint32_t n_tokens, float* out) {
  for_each_byte_run<avx512::read_halves>(
      v, shape, source.row_bytes(), n_tokens,
      [&](const KvRun& run, std::size_t n, const float* scales, std::size_t first) {
        for_each_some<kA>(weights.n_q, [&](std::size_t n_q, std::size_t first_q) {
          ByteWeights<kA> some(n_q, source.together() * shape.block_tokens);
          some.round({weights.data + first_q * weights.stride + first, n_q, weights.stride}, scales,
                     n);
          add_blocks(source, some, run, n, shape, out + first_q * shape.head_dim);
        });
      });
}

/// Table::run_scores_bytes, of parts that `source` reads.
template <class Source>
void run_scores(Source& source, const float* q, const KvRun& k, BlockShape shape,
                ScoreTile scores) {
  const bool are_few = scores.n_q <= ByteShapes<1>::kMaxRows;
  (are_few ? scores_of<1, Source> : scores_of<2, Source>)(source, q, k, shape, scores);
}

/// Table::run_accumulate_bytes, of parts that `source` reads.
template <class Source>
void run_accumulate(Source& source, ScoreTile weights, const KvRun& v, BlockShape shape,
                    std::uint32_t n_tokens, float* out) {
  const bool are_few = weights.n_q <= ByteShapes<1>::kMaxRows;
  (are_few ? accumulate<1, Source> : accumulate<2, Source>)(source, weights, v, shape, n_tokens,
                                                            out);
}

}  // namespace
}  // namespace larder::simd::amx
