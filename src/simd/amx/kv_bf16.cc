// Runs of bf16 blocks, straight from where they stand.
#include "simd/amx/kv.h"
#include "simd/amx/kv_tiles.h"
#include "simd/run_distance.h"

namespace larder::simd::amx {
namespace {

void score_run(const QueryTiles& queries, const KvRun& k, BlockShape shape, ScoreTile out) {
  constexpr int kMaxKeys = QueryTiles::kMaxKeys;
  const std::size_t tile_bytes = kLanes * shape.head_dim * 2;
  const std::size_t n_in_block = shape.block_tokens / kLanes;
  KeyTile keys[kMaxKeys];
  int n = 0;
  for (std::size_t b = 0; b < k.n_blocks; ++b) {
    const std::ptrdiff_t ahead = distance_ahead(k, b, n_in_block * tile_bytes);
    for (std::size_t i = 0; i < n_in_block; ++i) {
      keys[n++] = {k.parts[b] + i * tile_bytes, ahead};
      if (n < kMaxKeys) continue;
      queries.score(keys, n, out.data, out.stride);
      out.data += kMaxKeys * kLanes;
      n = 0;
    }
  }
  if (n > 0) queries.score(keys, n, out.data, out.stride);
}

/// Some rows of V and their weights: what the passes over the channels have in common.
struct WeightedRows {
  const std::uint16_t* weights;  // packed
  const KvRun& v;
  BlockShape shape;
  std::size_t n_tokens;
};

/// out [n_q, head_dim] += for kC tiles of channels from `first` on.
template <int kC>
void add_run(const ChannelTiles& sums, const WeightedRows& in, std::size_t first, float* out) {
  const std::size_t head_dim = in.shape.head_dim, row_bytes = head_dim * 4, step = sums.step();
  const std::uint16_t* weights = in.weights;
  std::size_t n_tokens = in.n_tokens;
  sums.begin<kC>(out + first, head_dim);
  for (std::size_t b = 0; n_tokens > 0; ++b) {
    const std::byte* rows = in.v.parts[b] + first * 4;
    const std::ptrdiff_t ahead =
        distance_ahead(in.v, b, std::size_t{in.shape.block_tokens} * head_dim * 2);
    for (std::size_t t = 0; t < in.shape.block_tokens && n_tokens > 0; t += step) {
      if (n_tokens < step) {
        sums.add_some<kC>(weights, rows, row_bytes, n_tokens);
        n_tokens = 0;
        break;
      }
      sums.add<kC>(weights, rows, row_bytes);
      if (ahead != 0) {
        for (std::size_t pair = 0; pair < step / 2; ++pair) {
          fetch(rows + pair * row_bytes, ahead, kC);
        }
      }
      weights += step;
      rows += step / 2 * row_bytes;
      n_tokens -= step;
    }
  }
  sums.end<kC>(out + first, head_dim);
}

}  // namespace

void run_scores_bf16(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  while (scores.n_q > 0) {
    const std::size_t n = scores.n_q < kTileRows ? scores.n_q : kTileRows;
    score_run(QueryTiles(q, n, shape.head_dim), k, shape, {scores.data, n, scores.stride});
    q += n * shape.head_dim;
    scores.data += n * scores.stride;
    scores.n_q -= n;
  }
}

void run_accumulate_bf16(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out) {
  constexpr std::size_t kStride = ChannelTiles::kStride;
  alignas(64) std::uint16_t packed[kTileRows * kStride];
  const std::size_t chunk_blocks = ChannelTiles::kMaxTokens / shape.block_tokens;
  const std::size_t chunk_tokens = chunk_blocks * shape.block_tokens;
  const std::size_t head_dim = shape.head_dim, step = step_tokens(shape.block_tokens);
  while (weights.n_q > 0) {
    const std::size_t n_q = weights.n_q < kTileRows ? weights.n_q : kTileRows;
    KvRun left = v;
    for (std::size_t t = 0; t < n_tokens; t += chunk_tokens) {
      const std::size_t n = n_tokens - t < chunk_tokens ? n_tokens - t : chunk_tokens;
      for (std::size_t i = 0; i < n_q; ++i) {
        pack(weights.data + i * weights.stride + t, n, packed + i * kStride);
      }
      const WeightedRows rows{packed, left, shape, n};
      if (head_dim >= kLanes) {
        const ChannelTiles sums(n_q, step, kLanes);
        for_each_pass<ChannelTiles::kMaxSums>(head_dim / kLanes,
                                              [&](auto n_tiles, std::size_t tile) {
                                                add_run<n_tiles()>(sums, rows, tile * kLanes, out);
                                              });
      }
      if (head_dim % kLanes != 0) {
        const ChannelTiles sums(n_q, step, head_dim % kLanes);
        add_run<1>(sums, rows, head_dim / kLanes * kLanes, out);
      }
      if (n_tokens - t <= chunk_tokens) break;
      left.parts += chunk_blocks;
      left.n_blocks -= chunk_blocks;
    }
    weights.data += n_q * weights.stride;
    weights.n_q -= n_q;
    out += n_q * head_dim;
  }
}

}  // namespace larder::simd::amx
