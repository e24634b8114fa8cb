// Runs of byte parts, straight from where they stand; arithmetic in simd/byte_rows.h.
#include "simd/avx512/byte_rows.h"

#include "simd/amx/byte_tiles.h"
#include "simd/amx/kv.h"
#include "simd/avx512/codes.h"
#include "simd/byte_runs.h"
#include "simd/run_distance.h"

namespace larder::simd::amx {
namespace {

constexpr std::size_t kBytesAhead = 13000;
/// Up to so many queries times channels vectors have so little to do that memory is what they wait
/// for, and they wait less than tiles do, whose loads hold up what is behind them. The same bits.
constexpr std::size_t kFewProducts = 256;

template <int kA>
void score_run(const ByteQueries<kA>& queries, const KvRun& k, BlockShape shape, ScoreTile scores) {
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
    const std::byte* const scales = part + bytes_of_rows(shape);
    const std::ptrdiff_t ahead = distance_ahead(k, b, byte_part_bytes(shape), kBytesAhead);
    fetch_second_level(scales, ahead, (shape.block_tokens * 2 + 63) / 64);
    for (std::size_t t = 0; t < shape.block_tokens; t += kLanes) {
      keys[turn][n++] = {part + t * shape.head_dim, scales + 2 * t, ahead};
      if (n == kMaxKeys) work();
    }
  }
  if (n > 0) work();
  work();
}

/// Blocks of at most kByteRun tokens, and their rounded weights.
template <int kA>
void add_blocks(const ByteWeights<kA>& weights, const KvRun& v, std::size_t n_blocks,
                BlockShape shape, float* out) {
  const std::size_t n_tiles = shape.head_dim / kLanes;
  for_each_pass<ByteWeights<kA>::kMaxSums>(n_tiles, [&](auto n_now, std::size_t tile) {
    weights.template begin<n_now()>();
    for (std::size_t b = 0; b < n_blocks; ++b) {
      const std::ptrdiff_t ahead = distance_ahead(v, b, byte_part_bytes(shape), kBytesAhead);
      weights.template add<n_now()>(b * shape.block_tokens, v.parts[b] + tile * kTileRowBytes,
                                    ahead);
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

template <int kA>
void scores_of(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  for_each_some<kA>(scores.n_q, [&](std::size_t n_q, std::size_t first) {
    const ByteQueries<kA> queries(q + first * shape.head_dim, n_q, shape.head_dim);
    score_run(queries, k, shape, {scores.data + first * scores.stride, n_q, scores.stride});
  });
}

template <int kA>
void accumulate(ScoreTile weights, const KvRun& v, BlockShape shape, std::uint32_t n_tokens,
                float* out) {
  for_each_byte_run<avx512::read_halves>(
      v, shape, n_tokens,
      [&](const KvRun& run, std::size_t n, const float* scales, std::size_t first) {
        for_each_some<kA>(weights.n_q, [&](std::size_t n_q, std::size_t first_q) {
          ByteWeights<kA> some(n_q, shape);
          some.round({weights.data + first_q * weights.stride + first, n_q, weights.stride}, scales,
                     n * shape.block_tokens);
          add_blocks(some, run, n, shape, out + first_q * shape.head_dim);
        });
      });
}

}  // namespace

void run_scores_bytes(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  if (scores.n_q * shape.head_dim <= kFewProducts) {
    return avx512::run_scores_bytes(q, k, shape, scores);
  }
  (scores.n_q <= ByteShapes<1>::kMaxRows ? scores_of<1> : scores_of<2>)(q, k, shape, scores);
}

void run_accumulate_bytes(ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out) {
  if (weights.n_q * shape.head_dim <= kFewProducts) {
    return avx512::run_accumulate_bytes(weights, v, shape, n_tokens, out);
  }
  const bool are_few = weights.n_q <= ByteShapes<1>::kMaxRows;
  (are_few ? accumulate<1> : accumulate<2>)(weights, v, shape, n_tokens, out);
}

}  // namespace larder::simd::amx
