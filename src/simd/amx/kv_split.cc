// Runs of f16 and f32 blocks, in tiles of bf16.
#include "simd/amx/kv_split.h"

#include "simd/amx/kv.h"
#include "simd/run_distance.h"

namespace larder::simd::amx {
namespace {

// Bytes that are fetched ahead; into the second-level cache, which has room for them.
constexpr std::size_t kBytesAhead = 13312;

/// Some K tiles, at most as many as are multiplied at once.
struct KeyTiles {
  static constexpr std::size_t kMax = SplitTiles<F16>::kTiles;
  KeyTile tiles[kMax];
  std::size_t n;
};

/// The K tiles of a run, one after the other.
class KeyCursor {
 public:
  KeyCursor(const KvRun& run, BlockShape shape, std::size_t element_bytes)
      : run_(run),
        tile_bytes_(kLanes * shape.head_dim * element_bytes),
        n_in_block_(shape.block_tokens / kLanes) {}

  KeyTiles take() {
    KeyTiles keys{};
    for (; block_ < run_.n_blocks && keys.n < KeyTiles::kMax; ++keys.n) {
      if (tile_ == 0) ahead_ = distance_ahead(run_, block_, n_in_block_ * tile_bytes_, kBytesAhead);
      keys.tiles[keys.n] = {run_.parts[block_] + tile_ * tile_bytes_, ahead_};
      if (++tile_ < n_in_block_) continue;
      tile_ = 0;
      ++block_;
    }
    return keys;
  }

 private:
  const KvRun& run_;
  const std::size_t tile_bytes_, n_in_block_;
  std::size_t block_ = 0, tile_ = 0;
  std::ptrdiff_t ahead_ = 0;
};

/// `n_q` queries, at most kTileRows.
template <class Format>
void score_run(const float* q, const KvRun& k, BlockShape shape, ScoreTile out) {
  constexpr std::size_t kRowBytes = kLanes * Format::kBytes;  // a channel of a K tile
  constexpr std::size_t kMaxSteps = kMaxHeadDim / kStep;
  alignas(64) std::uint16_t a[kMaxSteps * kStepElements<Format>];
  const std::size_t head_dim = shape.head_dim, n_steps = (head_dim + kStep - 1) / kStep;
  for (std::size_t i = 0; i < out.n_q; ++i) {
    for (std::size_t c = 0; c < head_dim; c += kStep) {
      split_row<Format>(q + i * head_dim + c, head_dim - c < kStep ? head_dim - c : kStep,
                        a + c / kStep * kStepElements<Format> + i * kStep);
    }
  }
  SplitTiles<Format> tiles(out.n_q, kStep, kLanes);
  const auto source = [head_dim](const KeyTiles& keys, std::size_t t, std::size_t channel) {
    const std::size_t left = head_dim - channel;
    return PairSource{keys.tiles[t].data + channel * kRowBytes, kRowBytes, 2 * kRowBytes,
                      left < kStep ? left : kStep, keys.tiles[t].ahead};
  };
  KeyCursor cursor(k, shape, Format::kBytes);
  KeyTiles now = cursor.take();
  tiles.begin(now.n, [&](std::size_t t) { return source(now, t, 0); });
  while (now.n > 0) {
    KeyTiles next = now;
    tiles.zero();
    for (std::size_t step = 0; step < n_steps; ++step) {
      std::size_t channel = (step + 1) * kStep;
      if (step + 1 == n_steps) {
        next = cursor.take();
        channel = 0;
      }
      tiles.step(a + step * kStepElements<Format>, now.n, next.n,
                 [&](std::size_t t) { return source(next, t, channel); });
    }
    tiles.store(now.n, out.data, out.stride);
    out.data += now.n * kLanes;
    now = next;
  }
}

/// Some rows of V and their weights: what the passes over the channels have in common.
struct WeightedRows {
  const std::uint16_t* weights;  // split
  const KvRun& v;
  BlockShape shape;
  std::size_t n_tokens, step;
};

/// The steps of a run, one after the other: at most `n` rows of one block.
class RowCursor {
 public:
  struct Rows {
    const std::byte* data;
    std::size_t n;
    std::ptrdiff_t ahead;
  };
  RowCursor(const WeightedRows& in, std::size_t row_bytes)
      : in_(in), row_bytes_(row_bytes), left_(in.n_tokens) {}

  Rows take() {
    const std::size_t n = left_ < in_.step ? left_ : in_.step;
    if (n == 0) return {nullptr, 0, 0};
    if (token_ == 0) {
      ahead_ = distance_ahead(in_.v, block_, in_.shape.block_tokens * row_bytes_, kBytesAhead);
    }
    const Rows rows{in_.v.parts[block_] + token_ * row_bytes_, n, ahead_};
    left_ -= n;
    token_ += in_.step;
    if (token_ == in_.shape.block_tokens) {
      token_ = 0;
      ++block_;
    }
    return rows;
  }

 private:
  const WeightedRows& in_;
  const std::size_t row_bytes_;
  std::size_t left_, block_ = 0, token_ = 0;
  std::ptrdiff_t ahead_ = 0;
};

/// out [n_q, head_dim] += for `n` tiles of channels from `first` on.
template <class Format>
void add_run(SplitTiles<Format>& tiles, const WeightedRows& in, std::size_t first, std::size_t n,
             float* out) {
  constexpr std::size_t kTileBytes = kLanes * Format::kBytes;  // of a row
  const std::size_t head_dim = in.shape.head_dim, row_bytes = head_dim * Format::kBytes;
  const auto source = [=](const RowCursor::Rows& rows, std::size_t t) {
    // Where a cache line has 16 channels of two tiles, one of the two asks for that of the first
    // row of each pair, the other for that of the second.
    const bool fetches_second = Format::kBytes == 2 && t % 2 != 0;
    const std::size_t to_second = fetches_second ? row_bytes - kTileBytes : 0;
    return PairSource{rows.data + first * Format::kBytes + t * kTileBytes, row_bytes, 2 * row_bytes,
                      rows.n, rows.ahead + static_cast<std::ptrdiff_t>(to_second)};
  };
  RowCursor cursor(in, row_bytes);
  RowCursor::Rows next = cursor.take();
  tiles.load(n, out + first, head_dim);
  tiles.begin(n, [&](std::size_t t) { return source(next, t); });
  for (const std::uint16_t* a = in.weights; next.n > 0; a += kStepElements<Format>) {
    next = cursor.take();
    tiles.step(a, n, next.n > 0 ? n : 0, [&](std::size_t t) { return source(next, t); });
  }
  tiles.store(n, out + first, head_dim);
}

/// The weights of a chunk as tiles of A.
template <class Format>
void split_weights(ScoreTile weights, std::size_t n_tokens, std::size_t step, std::uint16_t* a) {
  for (std::size_t t = 0; t < n_tokens; t += step, a += kStepElements<Format>) {
    const std::size_t n = n_tokens - t < step ? n_tokens - t : step;
    for (std::size_t i = 0; i < weights.n_q; ++i) {
      split_row<Format>(weights.data + i * weights.stride + t, n, a + i * kStep);
    }
  }
}

/// At most kTileRows rows of weights.
template <class Format>
void accumulate_run(ScoreTile weights, KvRun v, BlockShape shape, std::size_t n_tokens,
                    float* out) {
  // So many that the parts of their weights leave room in the first-level cache.
  constexpr std::size_t kMaxTokens = 256;
  static_assert(kMaxTokens >= kMaxBlockTokens);
  alignas(64) std::uint16_t a[kMaxTokens / kLanes * kStepElements<Format>];
  const std::size_t chunk_blocks = kMaxTokens / shape.block_tokens;
  const std::size_t chunk_tokens = chunk_blocks * shape.block_tokens;
  const std::size_t head_dim = shape.head_dim, step = step_tokens(shape.block_tokens);
  const std::size_t whole = head_dim / kLanes * kLanes;
  while (n_tokens > 0) {
    const std::size_t n = n_tokens < chunk_tokens ? n_tokens : chunk_tokens;
    split_weights<Format>(weights, n, step, a);
    const WeightedRows rows{a, v, shape, n, step};
    if (whole > 0) {
      SplitTiles<Format> tiles(weights.n_q, step, kLanes);
      constexpr std::size_t kPass = SplitTiles<Format>::kTiles * kLanes;
      for (std::size_t c = 0; c < whole; c += kPass) {
        const std::size_t n_channels = whole - c < kPass ? whole - c : kPass;
        add_run<Format>(tiles, rows, c, n_channels / kLanes, out);
      }
    }
    if (whole < head_dim) {
      SplitTiles<Format> tiles(weights.n_q, step, head_dim - whole);
      add_run<Format>(tiles, rows, whole, 1, out);
    }
    n_tokens -= n;
    if (n_tokens == 0) return;
    weights.data += chunk_tokens;
    v.parts += chunk_blocks;
    v.n_blocks -= chunk_blocks;
  }
}

template <class Format>
void run_scores(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  while (scores.n_q > 0) {
    const std::size_t n = scores.n_q < kTileRows ? scores.n_q : kTileRows;
    score_run<Format>(q, k, shape, {scores.data, n, scores.stride});
    q += n * shape.head_dim;
    scores.data += n * scores.stride;
    scores.n_q -= n;
  }
}

template <class Format>
void run_accumulate(ScoreTile weights, const KvRun& v, BlockShape shape, std::uint32_t n_tokens,
                    float* out) {
  while (weights.n_q > 0) {
    const std::size_t n = weights.n_q < kTileRows ? weights.n_q : kTileRows;
    accumulate_run<Format>({weights.data, n, weights.stride}, v, shape, n_tokens, out);
    weights.data += n * weights.stride;
    weights.n_q -= n;
    out += n * shape.head_dim;
  }
}

}  // namespace

void run_scores_f16(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  run_scores<F16>(q, k, shape, scores);
}
void run_scores_f32(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  run_scores<F32>(q, k, shape, scores);
}
void run_accumulate_f16(ScoreTile weights, const KvRun& v, BlockShape shape, std::uint32_t n_tokens,
                        float* out) {
  run_accumulate<F16>(weights, v, shape, n_tokens, out);
}
void run_accumulate_f32(ScoreTile weights, const KvRun& v, BlockShape shape, std::uint32_t n_tokens,
                        float* out) {
  run_accumulate<F32>(weights, v, shape, n_tokens, out);
}

}  // namespace larder::simd::amx
