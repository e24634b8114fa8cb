// Attention of a tile of queries over one run of cached rows: the inner step of `attend`.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention.h"

namespace larder {

/// What stays the same during one call of `attend`.
struct AttentionContext {
  const simd::Table& simd;
  const AttentionShape& shape;
  const KvLayout& layout;
  simd::ScoresFn scores;
  simd::AccumulateFn accumulate;
};

/// Consecutive query rows of one sequence, with the heads that share one KV head.
struct QueryTile {
  const KvRows& cached;
  std::uint32_t first_position;  // of its first row; row r sees rows up to first_position + r
  std::uint32_t n_rows;
  std::uint32_t group;  // query heads per KV head
  const float* q;       // [n_rows, group, head_dim], rotated and scaled
};

/// Attention states of the queries of a tile.
struct StateTile {
  float* max;  // [n_rows, group]
  float* sum;  // [n_rows, group]
  float* out;  // [n_rows, group, head_dim]
};
constexpr std::size_t state_tile_floats(std::size_t n_queries, std::size_t head_dim) {
  return n_queries * (head_dim + 2);
}
/// Views `state_tile_floats(n_queries, head_dim)` floats as a state tile.
StateTile state_tile(float* memory, std::size_t n_queries);

struct RowRange {
  std::uint32_t begin, end;
  bool empty() const noexcept { return begin >= end; }
};
/// Cached rows that the query at `position` sees.
RowRange visible_rows(const AttentionShape& shape, std::uint32_t position);
/// Rows of the tile, contiguous, that see any of the cached rows [begin, end).
RowRange rows_that_see(const AttentionShape& shape, const QueryTile& tile, RowRange cached);

/// Sets `states` of the rows that see any of run `run`; the others keep theirs.
/// `scores` [n_rows, group, kRunTokens] is overwritten.
/// Method: two passes over the run, so no rescaling inside it: scores, maximum and exponentials of
/// all its rows, then the weighted sum of V.
void attend_run(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
                float* scores, const StateTile& states);

/// Merges `from`, the states of run `run`, into the rows of `into` that see any of it.
void merge_run(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
               const StateTile& from, const StateTile& into);

}  // namespace larder
