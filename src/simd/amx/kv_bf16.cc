// Runs of bf16 blocks by TDPBF16PS: K tiles and V rows stand in memory as its B tiles do. Up to 16
// queries, or their weights, are the rows of an A tile. Any number of them gives the same bits, for
// a row of a product depends on its own row of A alone; so decoding takes this way too.
#include <immintrin.h>

#include <cstring>

#include "simd/amx/kv.h"
#include "simd/amx/tiles.h"
#include "simd/run_distance.h"

namespace larder::simd::amx {
namespace {

constexpr std::size_t kLanes = 16;            // tokens of a K tile; channels of a C tile
constexpr std::size_t kStep = 32;             // elements of a row of A: channels, or tokens
constexpr std::size_t kMaxChunkTokens = 512;  // whose weights are packed at once
constexpr std::size_t kBTileBytes = kTileRows * kTileRowBytes;

// Rows of A begin so many elements apart: whole cache lines, but no power of two, so that rows do
// not compete for cache sets.
constexpr std::size_t kQueryStride = kMaxHeadDim + kStep;
constexpr std::size_t kWeightStride = kMaxChunkTokens + kStep;

__mmask16 first_lanes(std::size_t n) {
  return static_cast<__mmask16>(n >= kLanes ? 0xffffU : (1U << n) - 1U);
}

/// x [n] as bf16, filled up with zeros to a whole number of steps.
void pack(const float* x, std::size_t n, std::uint16_t* out) {
  for (std::size_t i = 0; i < n; i += kStep) {
    const std::size_t left = n - i;
    const __m512 low = _mm512_maskz_loadu_ps(first_lanes(left), x + i);
    const __mmask16 rest = left > kLanes ? first_lanes(left - kLanes) : __mmask16{0};
    const __m512 high = _mm512_maskz_loadu_ps(rest, x + i + kLanes);
    _mm512_storeu_si512(out + i, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
  }
}

/// Asks for the `n` lines at `line` + `ahead`.
[[gnu::always_inline]] inline void fetch(const std::byte* line, std::ptrdiff_t ahead,
                                         std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    _mm_prefetch(reinterpret_cast<const char*>(line + i * 64) + ahead, _MM_HINT_T0);
  }
}

template <std::size_t kN, class F, std::size_t... kI>
[[gnu::always_inline]] inline void unroll(F&& f, std::index_sequence<kI...>) {
  (f(std::integral_constant<int, kI>{}), ...);
}
template <int kN, class F>
[[gnu::always_inline]] inline void for_each_tile(F&& f) {
  unroll<kN>(f, std::make_index_sequence<kN>{});
}

// --- scores --------------------------------------------------------------------------------------

constexpr int kScoreTiles = 4;  // neighbouring K tiles, whose scores are C tiles 0 to 3
constexpr int kQuery = 4, kKeys = 5, kLastQuery = 6, kLastKeys = 7;

struct KeyTile {
  const std::byte* data;
  std::ptrdiff_t ahead;
};

/// kT K tiles against the queries of A.
template <int kT>
void score_tiles(const std::uint16_t* q, const KeyTile* keys, std::size_t n_pairs, float* out,
                 std::size_t stride) {
  for_each_tile<kT>([&](auto t) { zero_tile<t()>(); });
  std::size_t pair = 0;
  for (; pair + kTileRows <= n_pairs; pair += kTileRows) {
    load_tile<kQuery>(q + pair * 2, kQueryStride * 2);
    for_each_tile<kT>([&](auto t) {
      const std::byte* rows = keys[t()].data + pair * kTileRowBytes;
      load_tile<kKeys>(rows, kTileRowBytes);
      fetch(rows, keys[t()].ahead, kTileRows);
      multiply_bf16<t(), kQuery, kKeys>();
    });
  }
  if (pair < n_pairs) {
    load_tile<kLastQuery>(q + pair * 2, kQueryStride * 2);
    for_each_tile<kT>([&](auto t) {
      const std::byte* rows = keys[t()].data + pair * kTileRowBytes;
      load_tile<kLastKeys>(rows, kTileRowBytes);
      fetch(rows, keys[t()].ahead, n_pairs - pair);
      multiply_bf16<t(), kLastQuery, kLastKeys>();
    });
  }
  for_each_tile<kT>([&](auto t) { store_tile<t()>(out + t() * kLanes, stride * sizeof(float)); });
}

/// At most kTileRows queries, packed.
void score_run(const std::uint16_t* q, const KvRun& k, BlockShape shape, ScoreTile out) {
  const std::size_t n_pairs = shape.head_dim / 2, rest = n_pairs % kTileRows;
  TileShapes shapes;
  for (int t = 0; t < kScoreTiles; ++t) shapes.set(t, out.n_q, kTileRowBytes);
  shapes.set(kQuery, out.n_q, kTileRowBytes);
  shapes.set(kKeys, kTileRows, kTileRowBytes);
  if (rest > 0) {
    shapes.set(kLastQuery, out.n_q, rest * 4);
    shapes.set(kLastKeys, rest, kTileRowBytes);
  }
  const TileScope tiles(shapes);
  const std::size_t tile_bytes = n_pairs * kTileRowBytes;
  const std::size_t n_in_block = shape.block_tokens / kLanes;
  KeyTile keys[kScoreTiles];
  int n = 0;
  for (std::size_t b = 0; b < k.n_blocks; ++b) {
    const std::ptrdiff_t ahead = distance_ahead(k, b, n_in_block * tile_bytes);
    for (std::size_t i = 0; i < n_in_block; ++i) {
      keys[n++] = {k.parts[b] + i * tile_bytes, ahead};
      if (n < kScoreTiles) continue;
      score_tiles<kScoreTiles>(q, keys, n_pairs, out.data, out.stride);
      out.data += kScoreTiles * kLanes;
      n = 0;
    }
  }
  if (n == 1) score_tiles<1>(q, keys, n_pairs, out.data, out.stride);
  if (n == 2) score_tiles<2>(q, keys, n_pairs, out.data, out.stride);
  if (n == 3) score_tiles<3>(q, keys, n_pairs, out.data, out.stride);
}

// --- weighted sums -------------------------------------------------------------------------------

constexpr int kMaxSums = 6;  // C tiles, of 16 channels each
constexpr int kWeights = 6, kRows = 7;

/// Some rows of V times their weights: what the passes over the channels have in common.
struct WeightedRows {
  const std::uint16_t* weights;  // packed
  KvRun v;
  BlockShape shape;
  std::uint32_t n_tokens;
  std::size_t n_q;

  /// Tokens of a step: all of A's columns, or a block of half as many.
  std::uint32_t step() const {
    return shape.block_tokens % kStep == 0 ? std::uint32_t{kStep} : std::uint32_t{kLanes};
  }
};

/// The first `n` tokens of a step, of one tile of channels, with zeros for the others: not even
/// times zero may unwritten rows come into a sum.
void copy_rows(const std::byte* from, std::size_t row_bytes, std::size_t n, std::size_t n_channels,
               std::byte* to) {
  std::memset(to, 0, kBTileBytes);
  const __mmask16 lanes = first_lanes(n_channels);
  for (std::size_t pair = 0; pair < (n + 1) / 2; ++pair) {
    __m512i rows = _mm512_maskz_loadu_epi32(lanes, from + pair * row_bytes);
    if (2 * pair + 1 == n) rows = _mm512_and_si512(rows, _mm512_set1_epi32(0xffff));
    _mm512_storeu_si512(to + pair * kTileRowBytes, rows);
  }
}

/// out [n_q, head_dim] += for the channels [first, first + kC * 16), or fewer where kC is 1.
template <int kC>
void add_channels(const WeightedRows& in, std::size_t first, float* out) {
  const std::size_t head_dim = in.shape.head_dim, row_bytes = head_dim * 4;
  const std::size_t left = head_dim - first, n_channels = left < kLanes ? left : kLanes;
  const std::uint32_t step = in.step();
  TileShapes shapes;
  for (int c = 0; c < kC; ++c) shapes.set(c, in.n_q, n_channels * 4);
  shapes.set(kWeights, in.n_q, step * 2);
  shapes.set(kRows, step / 2, n_channels * 4);
  const TileScope tiles(shapes);
  out += first;
  for_each_tile<kC>([&](auto c) { load_tile<c()>(out + c() * kLanes, row_bytes); });
  const std::uint16_t* weights = in.weights;
  std::uint32_t n_tokens = in.n_tokens;
  for (std::size_t b = 0; n_tokens > 0; ++b) {
    const std::byte* rows = in.v.parts[b] + first * 4;
    const std::ptrdiff_t ahead =
        distance_ahead(in.v, b, std::size_t{in.shape.block_tokens} * head_dim * 2);
    for (std::uint32_t t = 0; t < in.shape.block_tokens && n_tokens > 0; t += step) {
      load_tile<kWeights>(weights, kWeightStride * 2);
      weights += step;
      if (n_tokens >= step) {
        for_each_tile<kC>([&](auto c) {
          load_tile<kRows>(rows + c() * kTileRowBytes, row_bytes);
          multiply_bf16<c(), kWeights, kRows>();
        });
        for (std::uint32_t pair = 0; pair < step / 2; ++pair) {
          fetch(rows + pair * row_bytes, ahead, kC);
        }
        n_tokens -= step;
      } else {
        for_each_tile<kC>([&](auto c) {
          alignas(64) std::byte some[kBTileBytes];
          copy_rows(rows + c() * kTileRowBytes, row_bytes, n_tokens, n_channels, some);
          load_tile<kRows>(some, kTileRowBytes);
          multiply_bf16<c(), kWeights, kRows>();
        });
        n_tokens = 0;
      }
      rows += step / 2 * row_bytes;
    }
  }
  for_each_tile<kC>([&](auto c) { store_tile<c()>(out + c() * kLanes, row_bytes); });
}

using AddChannels = void (*)(const WeightedRows&, std::size_t, float*);
constexpr AddChannels kAddChannels[kMaxSums] = {add_channels<1>, add_channels<2>, add_channels<3>,
                                                add_channels<4>, add_channels<5>, add_channels<6>};

void add_run(const WeightedRows& in, float* out) {
  const std::size_t head_dim = in.shape.head_dim, n_tiles = head_dim / kLanes;
  const std::size_t n_passes = (n_tiles + kMaxSums - 1) / kMaxSums;
  std::size_t tile = 0;
  for (std::size_t pass = 0; pass < n_passes; ++pass) {
    const std::size_t n = (n_tiles - tile) / (n_passes - pass);
    kAddChannels[n - 1](in, tile * kLanes, out);
    tile += n;
  }
  if (head_dim % kLanes != 0) add_channels<1>(in, tile * kLanes, out);
}

}  // namespace

void run_scores_bf16(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  alignas(64) std::uint16_t packed[kTileRows * kQueryStride];
  while (scores.n_q > 0) {
    const std::size_t n = scores.n_q < kTileRows ? scores.n_q : kTileRows;
    for (std::size_t i = 0; i < n; ++i) {
      pack(q + i * shape.head_dim, shape.head_dim, packed + i * kQueryStride);
    }
    score_run(packed, k, shape, {scores.data, n, scores.stride});
    q += n * shape.head_dim;
    scores.data += n * scores.stride;
    scores.n_q -= n;
  }
}

void run_accumulate_bf16(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out) {
  alignas(64) std::uint16_t packed[kTileRows * kWeightStride];
  const std::size_t chunk_blocks = kMaxChunkTokens / shape.block_tokens;
  const auto chunk_tokens = static_cast<std::uint32_t>(chunk_blocks * shape.block_tokens);
  while (weights.n_q > 0) {
    const std::size_t n_q = weights.n_q < kTileRows ? weights.n_q : kTileRows;
    KvRun left = v;
    for (std::uint32_t t = 0; t < n_tokens; t += chunk_tokens) {
      const std::uint32_t n = n_tokens - t < chunk_tokens ? n_tokens - t : chunk_tokens;
      for (std::size_t i = 0; i < n_q; ++i) {
        pack(weights.data + i * weights.stride + t, n, packed + i * kWeightStride);
      }
      add_run({packed, left, shape, n, n_q}, out);
      if (n_tokens - t <= chunk_tokens) break;
      left.parts += chunk_blocks;
      left.n_blocks -= chunk_blocks;
    }
    weights.data += n_q * weights.stride;
    weights.n_q -= n_q;
    out += n_q * shape.head_dim;
  }
}

}  // namespace larder::simd::amx
