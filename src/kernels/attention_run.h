// Attention of a tile of queries over one run of cached rows: the inner step of `attend`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.h"

namespace larder {

/// What stays the same during one call of `attend`.
struct AttentionContext {
  const simd::Table& simd;
  const AttentionShape& shape;
  const KvLayout& layout;
  std::span<const AttentionItem> items;
  simd::RunScoresFn scores;  // of open blocks, and of decoded ones
  simd::RunAccumulateFn accumulate;
  std::size_t run_queries;  // that are worked on at once, kMaxHalfQueries at most
};

/// A query row of the batch.
struct TileRow {
  std::uint32_t item;
  std::uint32_t row;  // within the item
};

/// Query rows with the heads that share one KV head: consecutive rows of one sequence, or rows of
/// sequences that begin with the same blocks.
struct QueryTile {
  std::span<const TileRow> rows;
  std::uint32_t kv_head;
  std::uint32_t group;  // query heads per KV head
  const float* q;       // [rows.size(), group, head_dim], rotated and scaled
  // What is read behind a run: the same run of another KV head, or the next one.
  std::uint32_t next_head;
  bool next_is_next_run;
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
  bool operator==(const RowRange&) const = default;
};
/// Cached rows that the query at `position` sees.
RowRange visible_rows(const AttentionShape& shape, std::uint32_t position);
/// Those of them that belong to run `run`; perhaps none.
RowRange visible_rows_of_run(const AttentionShape& shape, std::uint32_t position,
                             std::uint32_t run);

/// Memory that `attend_run` overwrites.
struct RunSpace {
  float* scores;   // [kMaxHalfQueries, kRunTokens]
  float* decoded;  // [SealedRun::n_floats] where the layer seals
};

/// Sets `states` of the rows that see any of run `run`; the others keep theirs. Rows of different
/// sequences are worked on together where they see the same blocks.
/// Method: two passes over the run, so no rescaling inside it: scores, maximum and exponentials of
/// all its rows, then the weighted sum of V.
void attend_run(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
                const RunSpace& space, const StateTile& states);

/// Merges `from`, the states of run `run`, into the rows of `into` that see any of it.
void merge_run(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
               const StateTile& from, const StateTile& into);

}  // namespace larder
