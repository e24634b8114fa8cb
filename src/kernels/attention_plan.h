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
/// beside the run. A multiple of any set's run_queries and half_queries that is worth one.
inline constexpr std::uint32_t kTileQueries = 96;

/// Rows of one or more items, whatever the KV head: rows [first, first + n_rows) of the plan's.
struct TileRows {
  std::uint32_t first, n_rows;
  std::uint32_t first_run, end_run;  // that any of them sees
  std::uint64_t cost;                // of one KV head: rows read, and queries that use them
};

/// Tiles of queries of some KV heads, of the same rows, over a range of runs. A run is worked on
/// for one head after the other: the blocks of these lie side by side.
struct AttentionTask {
  std::uint32_t first_head, n_heads;  // KV heads
  std::uint32_t first, n_rows;        // of the plan's rows
  std::uint32_t first_run, end_run;
  // Where the run states go, all runs of a head behind one another; null: the task makes the result
  // itself.
  float* states;
  std::uint32_t states_run, n_state_runs;  // the first of these runs, and their number
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
/// Tiles of queries of a KV head that hold this many queries at most fit the scratch of a thread.
std::uint32_t max_tile_queries(const AttentionShape& shape) noexcept;
/// Parts of about equal cost that the work is cut into, at most.
std::size_t max_shares(unsigned n_threads) noexcept;
/// Tiles of one KV head that a plan splits by runs at most.
std::size_t max_folds(const AttentionShape& shape, unsigned n_threads) noexcept;
/// Tasks that a plan has at most.
std::size_t max_tasks(const AttentionShape& shape, unsigned n_threads, std::uint32_t max_rows);

/// Rows of a prompt are cut into tiles. Items of few rows (decoding) whose sequences begin with the
/// same blocks share a tile, so that these blocks are read once for all of them. Tiles of few rows
/// become one task, those of a prompt one per KV head; but where that is too few to keep
/// `n_threads` busy (a single decoding sequence) they are split by runs, if `memory.states` has
/// room for their states, and by heads.
AttentionPlan plan_attention(const AttentionShape& shape, std::span<const AttentionItem> items,
                             unsigned n_threads, const AttentionPlanMemory& memory);

}  // namespace larder
