// Runs of f16 blocks, in tiles of bf16.
#include "simd/amx/kv_split.h"

#include "simd/amx/kv.h"
#include "simd/run_distance.h"

namespace larder::simd::amx {
namespace {

// Bytes that are fetched ahead; into the second-level cache, which has room for them.
constexpr std::size_t kBytesAhead = 13312;

/// Some K tiles, at most as many as are multiplied at once.
struct KeyTiles {
  static constexpr std::size_t kMax = SplitTiles::kTiles;
  KeyTile tiles[kMax];
  std::size_t n;
};

/// The K tiles of a run, one after the other.
class KeyCursor {
 public:
  KeyCursor(const KvRun& run, BlockShape shape)
      : run_(run),
        tile_bytes_(kLanes * shape.head_dim * kElementBytes),
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

/// Rows of A in groups of at most kTileRows, all of them of as many. Groups share what is split.
struct Groups {
  static constexpr std::size_t kMax = 3;
  std::size_t n, n_q;  // groups, and rows of each

  /// As many of n_q rows as go together.
  static Groups of(std::size_t n_q) {
    if (n_q <= kTileRows) return {1, n_q};
    return {n_q / kTileRows < kMax ? n_q / kTileRows : kMax, kTileRows};
  }
  std::size_t n_rows() const { return n * n_q; }
};
static_assert(Groups::kMax * kTileRows == kMaxHalfQueries);

void score_run(const float* q, Groups groups, const KvRun& k, BlockShape shape, ScoreTile out) {
  constexpr std::size_t kRowBytes = kLanes * kElementBytes;  // a channel of a K tile
  constexpr std::size_t kMaxSteps = kMaxHeadDim / kStep;
  alignas(64) std::uint16_t a[Groups::kMax * kMaxSteps * kStepElements];
  alignas(64) std::byte parts[kMaxSteps * SplitTiles::kStepBytes];
  const std::size_t head_dim = shape.head_dim, n_steps = (head_dim + kStep - 1) / kStep;
  const auto a_of = [&](std::size_t group, std::size_t step) {
    return a + (group * n_steps + step) * kStepElements;
  };
  for (std::size_t i = 0; i < groups.n_rows(); ++i) {
    for (std::size_t step = 0; step < n_steps; ++step) {
      const std::size_t left = head_dim - step * kStep;
      split_row(q + i * head_dim + step * kStep, left < kStep ? left : kStep,
                a_of(i / groups.n_q, step) + i % groups.n_q * kStep);
    }
  }
  const SplitTiles tiles(groups.n_q, kStep, kLanes, parts);
  KeyCursor cursor(k, shape);
  const auto source = [head_dim](const KeyTiles& keys, std::size_t t, std::size_t step) {
    const std::size_t channel = step * kStep, left = head_dim - channel;
    return PairSource{keys.tiles[t].data + channel * kRowBytes, kRowBytes, 2 * kRowBytes,
                      left < kStep ? left : kStep, keys.tiles[t].ahead};
  };
  if (groups.n == 1) {
    KeyTiles now = cursor.take();
    for (std::size_t t = 0; t < now.n; ++t) tiles.split(0, t, source(now, t, 0));
    for (std::size_t slot = 0; now.n > 0;) {
      KeyTiles next = now;
      tiles.zero();
      for (std::size_t step = 0; step < n_steps; ++step, slot = 1 - slot) {
        std::size_t of_next = step + 1;
        if (of_next == n_steps) {
          next = cursor.take();
          of_next = 0;
        }
        tiles.multiply_and_split(slot, now.n, a_of(0, step), 1 - slot, next.n,
                                 [&](std::size_t t) { return source(next, t, of_next); });
      }
      tiles.store(now.n, out.data, out.stride);
      out.data += now.n * kLanes;
      now = next;
    }
    return;
  }
  for (KeyTiles keys = cursor.take(); keys.n > 0; keys = cursor.take()) {
    for (std::size_t t = 0; t < keys.n; ++t) {
      for (std::size_t step = 0; step < n_steps; ++step) {
        tiles.split(step, t, source(keys, t, step));
      }
    }
    for (std::size_t group = 0; group < groups.n; ++group) {
      tiles.zero();
      for (std::size_t step = 0; step < n_steps; ++step) {
        tiles.multiply(step, keys.n, a_of(group, step));
      }
      tiles.store(keys.n, out.data + group * groups.n_q * out.stride, out.stride);
    }
    out.data += keys.n * kLanes;
  }
}

/// Some rows of V and their weights: what the passes over the channels have in common.
struct WeightedRows {
  const std::uint16_t* weights;  // split: of all steps of the first group, and so on
  Groups groups;
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
void add_run(const SplitTiles& tiles, const WeightedRows& in, std::size_t first, std::size_t n,
             float* out) {
  constexpr std::size_t kTileBytes = kLanes * kElementBytes;  // of a row
  const std::size_t head_dim = in.shape.head_dim, row_bytes = head_dim * kElementBytes;
  const auto source = [=](const RowCursor::Rows& rows, std::size_t t) {
    // Where a cache line has 16 channels of two tiles, one of the two asks for that of the first
    // row of each pair, the other for that of the second.
    const std::size_t to_second = t % 2 != 0 ? row_bytes - kTileBytes : 0;
    return PairSource{rows.data + first * kElementBytes + t * kTileBytes, row_bytes, 2 * row_bytes,
                      rows.n, rows.ahead + static_cast<std::ptrdiff_t>(to_second)};
  };
  RowCursor cursor(in, row_bytes);
  RowCursor::Rows rows = cursor.take();
  if (in.groups.n == 1) {
    tiles.load(n, out + first, head_dim);
    for (std::size_t t = 0; t < n; ++t) tiles.split(0, t, source(rows, t));
    const std::uint16_t* a = in.weights;
    for (std::size_t slot = 0; rows.n > 0; slot = 1 - slot, a += kStepElements) {
      rows = cursor.take();
      tiles.multiply_and_split(slot, n, a, 1 - slot, rows.n > 0 ? n : 0,
                               [&](std::size_t t) { return source(rows, t); });
    }
    tiles.store(n, out + first, head_dim);
    return;
  }
  std::size_t n_steps = 0;
  for (; rows.n > 0; rows = cursor.take(), ++n_steps) {
    for (std::size_t t = 0; t < n; ++t) tiles.split(n_steps, t, source(rows, t));
  }
  const std::uint16_t* a = in.weights;
  for (std::size_t group = 0; group < in.groups.n; ++group) {
    float* sums = out + group * in.groups.n_q * head_dim + first;
    tiles.load(n, sums, head_dim);
    for (std::size_t step = 0; step < n_steps; ++step, a += kStepElements) {
      tiles.multiply(step, n, a);
    }
    tiles.store(n, sums, head_dim);
  }
}

/// The weights of a chunk as tiles of A.
void split_weights(ScoreTile weights, std::size_t n_tokens, std::size_t step, std::uint16_t* a) {
  for (std::size_t t = 0; t < n_tokens; t += step, a += kStepElements) {
    const std::size_t n = n_tokens - t < step ? n_tokens - t : step;
    for (std::size_t i = 0; i < weights.n_q; ++i) {
      split_row(weights.data + i * weights.stride + t, n, a + i * kStep);
    }
  }
}

void accumulate_run(ScoreTile weights, Groups groups, KvRun v, BlockShape shape,
                    std::size_t n_tokens, float* out) {
  constexpr std::size_t kMaxTokens = kMaxBlockTokens, kMaxSteps = kMaxTokens / kLanes;
  alignas(64) std::uint16_t a[Groups::kMax * kMaxSteps * kStepElements];
  alignas(64) std::byte parts[kMaxSteps * SplitTiles::kStepBytes];
  const std::size_t chunk_blocks = kMaxTokens / shape.block_tokens;
  const std::size_t chunk_tokens = chunk_blocks * shape.block_tokens;
  const std::size_t head_dim = shape.head_dim, step = step_tokens(shape.block_tokens);
  const std::size_t whole = head_dim / kLanes * kLanes;
  while (n_tokens > 0) {
    const std::size_t n = n_tokens < chunk_tokens ? n_tokens : chunk_tokens;
    for (std::size_t group = 0; group < groups.n; ++group) {
      float* data = weights.data + group * groups.n_q * weights.stride;
      split_weights({data, groups.n_q, weights.stride}, n, step,
                    a + group * ((n + step - 1) / step) * kStepElements);
    }
    const WeightedRows rows{a, groups, v, shape, n, step};
    if (whole > 0) {
      const SplitTiles tiles(groups.n_q, step, kLanes, parts);
      constexpr std::size_t kPass = SplitTiles::kTiles * kLanes;
      for (std::size_t c = 0; c < whole; c += kPass) {
        const std::size_t n_channels = whole - c < kPass ? whole - c : kPass;
        add_run(tiles, rows, c, n_channels / kLanes, out);
      }
    }
    if (whole < head_dim) {
      const SplitTiles tiles(groups.n_q, step, head_dim - whole, parts);
      add_run(tiles, rows, whole, 1, out);
    }
    n_tokens -= n;
    if (n_tokens == 0) return;
    weights.data += chunk_tokens;
    v.parts += chunk_blocks;
    v.n_blocks -= chunk_blocks;
  }
}

}  // namespace

void run_scores_f16(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  while (scores.n_q > 0) {
    const Groups groups = Groups::of(scores.n_q);
    score_run(q, groups, k, shape, scores);
    q += groups.n_rows() * shape.head_dim;
    scores.data += groups.n_rows() * scores.stride;
    scores.n_q -= groups.n_rows();
  }
}

void run_accumulate_f16(ScoreTile weights, const KvRun& v, BlockShape shape, std::uint32_t n_tokens,
                        float* out) {
  while (weights.n_q > 0) {
    const Groups groups = Groups::of(weights.n_q);
    accumulate_run(weights, groups, v, shape, n_tokens, out);
    weights.data += groups.n_rows() * weights.stride;
    weights.n_q -= groups.n_rows();
    out += groups.n_rows() * shape.head_dim;
  }
}

}  // namespace larder::simd::amx
