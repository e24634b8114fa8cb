#include "kernels/attention_plan.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/attention_run.h"

namespace larder {
namespace {

constexpr std::uint64_t kTasksPerThread = 4;  // what is left uneven is at most a quarter of a share

// Reading a cached row costs about as much as eight queries that use it.
constexpr std::uint64_t kRowCost = 8;

AttentionTask tile_task(const AttentionShape& shape, const AttentionItem& item,
                        std::uint32_t first_row) {
  AttentionTask task{};
  task.first_row = first_row;
  task.n_rows = std::min(tile_rows(shape), item.n_rows - first_row);
  const std::uint32_t position = item.n_past + first_row;
  task.first_run = visible_rows(shape, position).begin / kRunTokens;
  task.end_run = (position + task.n_rows + kRunTokens - 1) / kRunTokens;
  return task;
}

std::uint64_t tile_cost(const AttentionShape& shape, const AttentionItem& item,
                        const AttentionTask& task) {
  const std::uint32_t position = item.n_past + task.first_row;
  const std::uint64_t n_cached = position + task.n_rows - visible_rows(shape, position).begin;
  return n_cached * (task.n_rows * (shape.n_heads / shape.n_kv_heads) + kRowCost);
}

class Planner {
 public:
  Planner(const AttentionShape& shape, std::uint64_t task_cost, const AttentionPlanMemory& memory)
      : shape_(shape), task_cost_(task_cost), memory_(memory) {}

  void add(AttentionTask tile, std::uint64_t cost) {
    const std::uint64_t n_runs = tile.end_run - tile.first_run;
    const std::uint64_t n_parts = std::min(n_runs, (cost + task_cost_ / 2) / task_cost_);
    if (n_parts > 1 && take_states(tile)) {
      LARDER_CHECK(n_folds_ < memory_.folds.size());
      memory_.folds[n_folds_++] = tile;
      for (std::uint64_t part = 0; part < n_parts; ++part) {
        AttentionTask task = tile;
        task.first_run = tile.first_run + static_cast<std::uint32_t>(n_runs * part / n_parts);
        task.end_run = tile.first_run + static_cast<std::uint32_t>(n_runs * (part + 1) / n_parts);
        push(task);
      }
    } else {
      push(tile);
    }
  }
  AttentionPlan plan() const {
    return {memory_.tasks.first(n_tasks_), memory_.folds.first(n_folds_)};
  }

 private:
  void push(const AttentionTask& task) {
    LARDER_CHECK(n_tasks_ < memory_.tasks.size());
    memory_.tasks[n_tasks_++] = task;
  }
  bool take_states(AttentionTask& tile) {
    const std::size_t n_queries = tile.n_rows * (shape_.n_heads / shape_.n_kv_heads);
    const std::size_t n =
        (tile.end_run - tile.first_run) * state_tile_floats(n_queries, shape_.head_dim);
    if (n > memory_.states.size() - n_floats_) return false;
    tile.states = memory_.states.data() + n_floats_;
    tile.states_run = tile.first_run;
    n_floats_ += n;
    return true;
  }

  const AttentionShape& shape_;
  const std::uint64_t task_cost_;
  const AttentionPlanMemory& memory_;
  std::size_t n_tasks_ = 0, n_folds_ = 0, n_floats_ = 0;
};

}  // namespace

std::uint32_t tile_rows(const AttentionShape& shape) noexcept {
  return std::max(1U, kTileQueries / (shape.n_heads / shape.n_kv_heads));
}

// A split tile costs 1.5 shares or more, and there are kTasksPerThread shares per thread.
std::size_t max_folds(unsigned n_threads) noexcept {
  return n_threads > 1 ? kTasksPerThread * n_threads : 0;
}

std::size_t max_tasks(const AttentionShape& shape, unsigned n_threads, std::uint32_t max_rows) {
  return std::size_t{shape.n_kv_heads} * max_rows + 2 * max_folds(n_threads);
}

AttentionPlan plan_attention(const AttentionShape& shape, std::span<const AttentionItem> items,
                             unsigned n_threads, const AttentionPlanMemory& memory) {
  const std::uint32_t step = tile_rows(shape);
  std::uint64_t total = 0;
  for (const AttentionItem& item : items) {
    for (std::uint32_t row = 0; row < item.n_rows; row += step) {
      total += shape.n_kv_heads * tile_cost(shape, item, tile_task(shape, item, row));
    }
  }
  const std::uint64_t task_cost =
      n_threads > 1 ? total / (kTasksPerThread * n_threads) + 1 : total + 1;
  Planner planner(shape, task_cost, memory);
  for (std::uint32_t i = 0; i < items.size(); ++i) {
    for (std::uint32_t h = 0; h < shape.n_kv_heads; ++h) {
      for (std::uint32_t row = 0; row < items[i].n_rows; row += step) {
        AttentionTask tile = tile_task(shape, items[i], row);
        tile.item = i;
        tile.kv_head = h;
        planner.add(tile, tile_cost(shape, items[i], tile));
      }
    }
  }
  return planner.plan();
}

}  // namespace larder
