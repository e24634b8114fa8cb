// How one call of `attend` is cut into tasks. Decides speed only: results do not depend on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.h"

namespace larder {

/// Queries (rows times heads of a group) that share one pass over the cached rows: enough to hide
/// the expansion of K and V, few enough that their scores (2 KiB each) stay in the L2 cache.
inline constexpr std::uint32_t kTileQueries = 32;

/// A tile of queries of one item and KV head, over a range of runs.
struct AttentionTask {
  std::uint32_t item, kv_head;
  std::uint32_t first_row, n_rows;  // within the item
  std::uint32_t first_run, end_run;
  std::uint32_t states_run;  // the run whose states are at `states`
  float* states;             // where the run states go; null: the task makes the result itself
};

struct AttentionPlan {
  std::span<const AttentionTask> tasks;
  std::span<const AttentionTask> folds;  // split tiles: all their runs, to be merged afterwards
};

/// Memory of a plan, from AttentionScratch.
struct AttentionPlanMemory {
  std::span<AttentionTask> tasks, folds;
  std::span<float> states;
};

std::uint32_t tile_rows(const AttentionShape& shape) noexcept;
/// Split tiles that a plan has at most.
std::size_t max_folds(unsigned n_threads) noexcept;
/// Tasks that a plan has at most.
std::size_t max_tasks(const AttentionShape& shape, unsigned n_threads, std::uint32_t max_rows);

/// Tiles become one task each, but long ones are split by runs when there are too few to keep
/// `n_threads` busy (a single decoding sequence) and `memory.states` has room for their states.
AttentionPlan plan_attention(const AttentionShape& shape, std::span<const AttentionItem> items,
                             unsigned n_threads, const AttentionPlanMemory& memory);

}  // namespace larder
