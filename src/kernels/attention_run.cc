#include "kernels/attention_run.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace larder {
namespace {

RowRange rows_of_run(std::uint32_t run) { return {run * kRunTokens, (run + 1) * kRunTokens}; }

RowRange rows_of_block(const AttentionShape& shape, std::uint32_t block) {
  return {block * shape.block_tokens, (block + 1) * shape.block_tokens};
}

const std::byte* block_bytes(const AttentionContext& context, const QueryTile& tile,
                             std::uint32_t block) {
  const std::size_t index = block - tile.cached.first_block;
  LARDER_DCHECK(index < tile.cached.blocks.size());
  return context.layout.pool + to_offset(tile.cached.blocks[index]);
}

const std::byte* v_bytes(const AttentionContext& context, const QueryTile& tile,
                         std::uint32_t block) {
  return block_bytes(context, tile, block) + context.layout.v_offset;
}

// Blocks of the run that any row of the tile sees.
RowRange blocks_of_run(const AttentionShape& shape, const QueryTile& tile, std::uint32_t run) {
  const RowRange rows = rows_of_run(run);
  const std::uint32_t begin = visible_rows(shape, tile.first_position).begin;
  const std::uint32_t end = tile.first_position + tile.n_rows;
  return {std::max(rows.begin, begin) / shape.block_tokens,
          (std::min(rows.end, end) + shape.block_tokens - 1) / shape.block_tokens};
}

// Parts are read in this order: K of all blocks of the run, then V of all of them.
void score_run(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
               float* scores) {
  const AttentionShape& shape = context.shape;
  const RowRange blocks = blocks_of_run(shape, tile, run);
  for (std::uint32_t b = blocks.begin; b < blocks.end; ++b) {
    const RowRange rows = rows_that_see(shape, tile, rows_of_block(shape, b));
    if (rows.empty()) continue;
    const std::size_t first = std::size_t{rows.begin} * tile.group;
    const std::size_t column = b * shape.block_tokens - run * kRunTokens;
    const std::byte* next = b + 1 < blocks.end ? block_bytes(context, tile, b + 1)
                                               : v_bytes(context, tile, blocks.begin);
    context.scores(
        tile.q + first * shape.head_dim, {block_bytes(context, tile, b), next},
        {shape.block_tokens, shape.head_dim},
        {scores + first * kRunTokens + column, (rows.end - rows.begin) * tile.group, kRunTokens});
  }
}

// Scores become weights. Which elements are touched depends on the query's position alone.
void weigh_run(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
               float* scores, const StateTile& states) {
  const AttentionShape& shape = context.shape;
  const RowRange run_rows = rows_of_run(run);
  const RowRange rows = rows_that_see(shape, tile, run_rows);
  for (std::uint32_t r = rows.begin; r < rows.end; ++r) {
    const RowRange seen = visible_rows(shape, tile.first_position + r);
    const std::size_t begin = std::max(seen.begin, run_rows.begin) - run_rows.begin;
    const std::size_t end = std::min(seen.end, run_rows.end) - run_rows.begin;
    for (std::size_t i = std::size_t{r} * tile.group; i < std::size_t{r + 1} * tile.group; ++i) {
      float* row = scores + i * kRunTokens;
      float* weights = row + begin;
      const std::size_t n = end - begin;
      if (shape.soft_cap != 0) context.simd.tanh_cap(weights, shape.soft_cap, n);
      states.max[i] = context.simd.max(weights, n);
      states.sum[i] = context.simd.exp_shift_sum(weights, states.max[i], n);
      // Rows of the block at the window's edge that this query no longer sees.
      std::fill(row + begin / shape.block_tokens * shape.block_tokens, weights, 0.0F);
    }
  }
}

// `weights` begin at the block's column; `next` is read after it.
void add_block(const AttentionContext& context, const QueryTile& tile, std::uint32_t block,
               const std::byte* next, float* weights, float* out) {
  const AttentionShape& shape = context.shape;
  const RowRange cached = rows_of_block(shape, block);
  const RowRange rows = rows_that_see(shape, tile, cached);
  if (rows.empty()) return;
  const BlockShape block_shape{shape.block_tokens, shape.head_dim};
  const simd::KvPart v{v_bytes(context, tile, block), next};
  const auto add = [&](std::uint32_t begin, std::uint32_t end, std::uint32_t n_tokens) {
    const std::size_t first = std::size_t{begin} * tile.group;
    context.accumulate(
        {weights + first * kRunTokens, std::size_t{end - begin} * tile.group, kRunTokens}, v,
        block_shape, n_tokens, out + first * shape.head_dim);
  };
  // A row inside the block must not look at the rows after it: they may be unwritten, and even a
  // weight of zero would let their NaN through. The rows that see all of it go together.
  std::uint32_t r = rows.begin;
  for (; r < rows.end && tile.first_position + r + 1 < cached.end; ++r) {
    add(r, r + 1, tile.first_position + r + 1 - cached.begin);
  }
  if (r < rows.end) add(r, rows.end, shape.block_tokens);
}

}  // namespace

StateTile state_tile(float* memory, std::size_t n_queries) {
  return {.max = memory, .sum = memory + n_queries, .out = memory + 2 * n_queries};
}

RowRange visible_rows(const AttentionShape& shape, std::uint32_t position) {
  const std::uint32_t end = position + 1;
  return {shape.window == 0 || end <= shape.window ? 0 : end - shape.window, end};
}

RowRange rows_that_see(const AttentionShape& shape, const QueryTile& tile, RowRange cached) {
  const std::uint64_t first = tile.first_position;
  const std::uint64_t begin = cached.begin > first ? cached.begin - first : 0;
  std::uint64_t end = tile.n_rows;
  if (shape.window != 0) {
    const std::uint64_t last = std::uint64_t{cached.end} + shape.window - 1;  // first not to see
    end = std::min(end, last > first ? last - first : 0);
  }
  return {static_cast<std::uint32_t>(std::min<std::uint64_t>(begin, tile.n_rows)),
          static_cast<std::uint32_t>(end)};
}

void attend_run(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
                float* scores, const StateTile& states) {
  const AttentionShape& shape = context.shape;
  const RowRange rows = rows_that_see(shape, tile, rows_of_run(run));
  if (rows.empty()) return;
  score_run(context, tile, run, scores);
  weigh_run(context, tile, run, scores, states);
  const std::size_t row_floats = std::size_t{tile.group} * shape.head_dim;
  std::fill(states.out + rows.begin * row_floats, states.out + rows.end * row_floats, 0.0F);
  const RowRange blocks = blocks_of_run(shape, tile, run);
  for (std::uint32_t b = blocks.begin; b < blocks.end; ++b) {
    // After the last block, perhaps the K part of the next run.
    const bool more = b + 1 - tile.cached.first_block < tile.cached.blocks.size();
    const std::byte* next = b + 1 < blocks.end ? v_bytes(context, tile, b + 1)
                            : more             ? block_bytes(context, tile, b + 1)
                                               : nullptr;
    add_block(context, tile, b, next, scores + (b * shape.block_tokens - run * kRunTokens),
              states.out);
  }
}

void merge_run(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
               const StateTile& from, const StateTile& into) {
  const std::size_t head_dim = context.shape.head_dim;
  const RowRange rows = rows_that_see(context.shape, tile, rows_of_run(run));
  for (std::size_t i = std::size_t{rows.begin} * tile.group; i < std::size_t{rows.end} * tile.group;
       ++i) {
    AttentionState state{into.max[i], into.sum[i], into.out + i * head_dim};
    merge_state(state, {from.max[i], from.sum[i], from.out + i * head_dim}, head_dim);
    into.max[i] = state.max;
    into.sum[i] = state.sum;
  }
}

}  // namespace larder
