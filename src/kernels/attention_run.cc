#include "kernels/attention_run.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"

namespace larder {
namespace {

constexpr std::uint32_t kMinBlockTokens = 16;
constexpr std::uint32_t kMaxRunBlocks = kRunTokens / kMinBlockTokens;

RowRange rows_of_run(std::uint32_t run) { return {run * kRunTokens, (run + 1) * kRunTokens}; }

const KvRows& cached(const AttentionContext& context, const QueryTile& tile, std::size_t row) {
  return context.items[tile.rows[row].item].heads[tile.kv_head];
}

std::uint32_t position(const AttentionContext& context, const QueryTile& tile, std::size_t row) {
  return context.items[tile.rows[row].item].n_past + tile.rows[row].row;
}

RowRange seen_of_run(const AttentionContext& context, const QueryTile& tile, std::size_t row,
                     std::uint32_t run) {
  return visible_rows_of_run(context.shape, position(context, tile, row), run);
}

RowRange blocks_of_rows(const AttentionShape& shape, RowRange rows) {
  return {rows.begin / shape.block_tokens,
          (rows.end + shape.block_tokens - 1) / shape.block_tokens};
}

std::span<const BlockId> ids(const KvRows& cached, RowRange blocks) {
  LARDER_DCHECK(blocks.begin >= cached.first_block);
  LARDER_DCHECK(blocks.end - cached.first_block <= cached.blocks.size());
  return cached.blocks.subspan(blocks.begin - cached.first_block, blocks.end - blocks.begin);
}

// Queries [begin, end) of a tile that read the same blocks of a run.
struct Together {
  std::size_t begin, end;
  RowRange blocks;       // that any of them sees
  const KvRows* cached;  // of one of them, good for all
};

// The addresses of the parts of a run in the order in which they are read: K of all blocks, V of
// all of them, and perhaps some K of the next run.
class Parts {
 public:
  Parts(const AttentionContext& context, const Together& queries) {
    const auto blocks = ids(*queries.cached, queries.blocks);
    n_ = blocks.size();
    for (std::size_t b = 0; b < n_; ++b) {
      parts_[b] = context.layout.pool + to_offset(blocks[b]);
      parts_[n_ + b] = parts_[b] + context.layout.v_offset;
    }
    const auto after =
        queries.cached->blocks.subspan(queries.blocks.end - queries.cached->first_block);
    n_next_ = std::min<std::size_t>(after.size(), kMaxNext);
    for (std::size_t b = 0; b < n_next_; ++b) {
      parts_[2 * n_ + b] = context.layout.pool + to_offset(after[b]);
    }
  }
  // The first `n` blocks.
  simd::KvRun k(std::size_t n) const { return {parts_.data(), n, n < n_ ? 0 : n_ + n_next_}; }
  simd::KvRun v(std::size_t n) const { return {parts_.data() + n_, n, n < n_ ? 0 : n_next_}; }

 private:
  static constexpr std::size_t kMaxNext = 8;
  std::array<const std::byte*, 2 * kMaxRunBlocks + kMaxNext> parts_;
  std::size_t n_, n_next_;
};

// Scores become weights; those of rows of the blocks that the query does not see become zero.
void weigh(const AttentionContext& context, RowRange seen, RowRange scored, float* scores,
           float& max, float& sum) {
  const std::size_t n = seen.end - seen.begin;
  float* weights = scores + (seen.begin - scored.begin);
  if (context.shape.soft_cap != 0) context.simd.tanh_cap(weights, context.shape.soft_cap, n);
  max = context.simd.max(weights, n);
  sum = context.simd.exp_shift_sum(weights, max, n);
  std::fill(scores, weights, 0.0F);
  std::fill(weights + n, scores + (scored.end - scored.begin), 0.0F);
}

// Keeps the memory busy while the scores of query `i` become weights, for about as many bytes as
// come in that time: V behind what was fetched together with the last K.
void fetch_ahead(const AttentionContext& context, const simd::KvRun& v, simd::BlockShape block,
                 std::size_t i) {
  constexpr std::size_t kFetched = 8192, kBytes = 2048;
  const std::size_t part_bytes = context.layout.v->v_bytes(block);
  const std::size_t part = (kFetched + i * kBytes) / part_bytes;
  const std::size_t offset = (kFetched + i * kBytes) % part_bytes;
  if (part >= v.n_blocks) return;
  context.simd.fetch(v.parts[part] + offset, std::min(kBytes, part_bytes - offset));
}

void attend_together(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
                     const Together& queries, float* scores, const StateTile& states) {
  const AttentionShape& shape = context.shape;
  const simd::BlockShape block{shape.block_tokens, shape.head_dim};
  const Parts parts(context, queries);
  for (std::size_t begin = queries.begin; begin < queries.end; begin += simd::kRunQueries) {
    const std::size_t n = std::min(simd::kRunQueries, queries.end - begin);
    // Rows after the last that is seen may be unwritten, and even a weight of zero would let their
    // NaN through; all before it are written, so that zero weights change nothing.
    RowRange scored{queries.blocks.begin * shape.block_tokens, 0};
    for (std::size_t i = begin; i < begin + n; i += tile.group - i % tile.group) {
      scored.end = std::max(scored.end, seen_of_run(context, tile, i / tile.group, run).end);
    }
    const simd::ScoreTile rows{scores, n, kRunTokens};
    const std::size_t n_blocks =
        (scored.end - scored.begin + shape.block_tokens - 1) / shape.block_tokens;
    const simd::KvRun v = parts.v(n_blocks);
    context.scores(tile.q + begin * shape.head_dim, parts.k(n_blocks), block, rows);
    for (std::size_t i = begin; i < begin + n; ++i) {
      if (begin == queries.begin) fetch_ahead(context, v, block, i - begin);
      weigh(context, seen_of_run(context, tile, i / tile.group, run), scored,
            scores + (i - begin) * kRunTokens, states.max[i], states.sum[i]);
    }
    float* out = states.out + begin * shape.head_dim;
    std::fill_n(out, n * shape.head_dim, 0.0F);
    context.accumulate(rows, v, block, scored.end - scored.begin, out);
  }
}

// The rows of the tile from `row` on, which sees the run, that read the same blocks as that one.
Together rows_together(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
                       std::size_t row) {
  const KvRows& first = cached(context, tile, row);
  const RowRange rows = seen_of_run(context, tile, row, run);
  Together together{row, row + 1, blocks_of_rows(context.shape, rows), &first};
  bool one_sequence = true;
  for (std::size_t r = row + 1; r < tile.rows.size(); ++r) {
    const RowRange seen = seen_of_run(context, tile, r, run);
    if (seen.empty()) break;
    const RowRange blocks = blocks_of_rows(context.shape, seen);
    const KvRows& other = cached(context, tile, r);
    if (&other == &first && one_sequence) {
      together.blocks.end = std::max(together.blocks.end, blocks.end);
    } else {
      if (blocks != together.blocks) break;
      if (!std::ranges::equal(ids(first, blocks), ids(other, blocks))) break;
      one_sequence = false;
    }
    together.end = r + 1;
  }
  together.begin *= tile.group;
  together.end *= tile.group;
  return together;
}

}  // namespace

StateTile state_tile(float* memory, std::size_t n_queries) {
  return {.max = memory, .sum = memory + n_queries, .out = memory + 2 * n_queries};
}

RowRange visible_rows(const AttentionShape& shape, std::uint32_t position) {
  const std::uint32_t end = position + 1;
  return {shape.window == 0 || end <= shape.window ? 0 : end - shape.window, end};
}

RowRange visible_rows_of_run(const AttentionShape& shape, std::uint32_t position,
                             std::uint32_t run) {
  const RowRange seen = visible_rows(shape, position), rows = rows_of_run(run);
  return {std::max(seen.begin, rows.begin), std::min(seen.end, rows.end)};
}

void attend_run(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
                float* scores, const StateTile& states) {
  for (std::size_t row = 0; row < tile.rows.size();) {
    if (seen_of_run(context, tile, row, run).empty()) {
      ++row;
      continue;
    }
    const Together queries = rows_together(context, tile, run, row);
    attend_together(context, tile, run, queries, scores, states);
    row = queries.end / tile.group;
  }
}

void merge_run(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
               const StateTile& from, const StateTile& into) {
  const std::size_t head_dim = context.shape.head_dim;
  for (std::size_t row = 0; row < tile.rows.size(); ++row) {
    if (seen_of_run(context, tile, row, run).empty()) continue;
    for (std::size_t i = row * tile.group; i < (row + 1) * tile.group; ++i) {
      AttentionState state{into.max[i], into.sum[i], into.out + i * head_dim};
      merge_state(state, {from.max[i], from.sum[i], from.out + i * head_dim}, head_dim);
      into.max[i] = state.max;
      into.sum[i] = state.sum;
    }
  }
}

}  // namespace larder
