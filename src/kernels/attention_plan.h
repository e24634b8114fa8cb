// How one call of `attend` is cut into tasks. Decides speed only: results do not depend on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "kernels/attention_run.h"

namespace larder {

/// Queries (rows times heads of a group) that share one pass over the cached rows: enough to hide
/// what reading a run from the last-level cache costs, few enough that their states stay in L2
/// beside the run. A multiple of any set's run_queries and plain_queries that is worth one.
inline constexpr std::uint32_t kTileQueries = 96;

/// Rows of one or more items, whatever the KV head: rows [first, first + n_rows) of the plan's.
struct TileRows {
  std::uint32_t first, n_rows;
  std::uint32_t first_run, end_run;  // that any of them sees
  std::uint64_t cost;                // see tile_cost
};

/// A tile of queries of one KV head, over a range of runs.
struct AttentionTask {
  std::uint32_t kv_head;
  std::uint32_t first, n_rows;  // of the plan's rows
  std::uint32_t first_run, end_run;
  std::uint32_t states_run;  // the run whose states are at `states`
  float* states;             // where the run states go; null: the task makes the result itself
};

struct AttentionPlan {
  std::span<const TileRow> rows;
  std::span<const AttentionTask> tasks;
  std::span<const AttentionTask> folds;  // split tiles: all their runs, to be merged afterwards
};

/// Memory of a plan, from AttentionScratch.
struct AttentionPlanMemory {
  std::span<std::uint32_t> order;  // [max_rows]
  std::span<TileRow> rows;         // [max_rows]
  std::span<TileRows> tiles;       // [max_rows]
  std::span<AttentionTask> tasks, folds;
  std::span<float> states;
};

std::uint32_t tile_rows(const AttentionShape& shape) noexcept;
/// Split tiles that a plan has at most.
std::size_t max_folds(unsigned n_threads) noexcept;
/// Tasks that a plan has at most.
std::size_t max_tasks(const AttentionShape& shape, unsigned n_threads, std::uint32_t max_rows);

/// Rows of a prompt are cut into tiles. Items of few rows (decoding) whose sequences begin with the
/// same blocks share a tile, so that these blocks are read once for all of them. Tiles become one
/// task per KV head, but long ones are split by runs when there are too few to keep `n_threads`
/// busy (a single decoding sequence) and `memory.states` has room for their states.
AttentionPlan plan_attention(const AttentionShape& shape, std::span<const AttentionItem> items,
                             unsigned n_threads, const AttentionPlanMemory& memory);

}  // namespace larder
