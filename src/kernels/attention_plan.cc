#include "kernels/attention_plan.h"

#include <algorithm>

#include "base/check.h"

namespace larder {
namespace {

constexpr std::uint64_t kTasksPerThread = 8;  // what is left uneven is at most an eighth of a share

// Reading a cached row costs about as much as sixteen queries that use it.
constexpr std::uint64_t kRowCost = 16;

std::uint32_t group_of(const AttentionShape& shape) { return shape.n_heads / shape.n_kv_heads; }

/// The first block that the item's rows see of each run stands for the run: blocks are shared
/// from the beginning of a sequence, and sharing is decided again where the rows are read.
BlockId run_mark(const AttentionShape& shape, const AttentionItem& item, std::uint32_t run) {
  const RowRange seen = visible_rows(shape, item.n_past);
  const std::uint32_t row = std::max(run * kRunTokens, seen.begin);
  const KvRows& cached = item.heads[0];
  const std::size_t index = row / shape.block_tokens - cached.first_block;
  return index < cached.blocks.size() ? cached.blocks[index] : cached.open;
}

RowRange runs_of(const AttentionShape& shape, const AttentionItem& item) {
  return {visible_rows(shape, item.n_past).begin / kRunTokens, item.n_past / kRunTokens + 1};
}

/// Puts sequences with common beginnings side by side.
bool comes_before(const AttentionShape& shape, const AttentionItem& a, const AttentionItem& b) {
  const RowRange runs_a = runs_of(shape, a), runs_b = runs_of(shape, b);
  if (runs_a.begin != runs_b.begin) return runs_a.begin < runs_b.begin;
  for (std::uint32_t run = runs_a.begin; run < std::min(runs_a.end, runs_b.end); ++run) {
    const BlockId x = run_mark(shape, a, run), y = run_mark(shape, b, run);
    if (x != y) return x < y;
  }
  return runs_a.end < runs_b.end;
}

bool begin_alike(const AttentionShape& shape, const AttentionItem& a, const AttentionItem& b) {
  const std::uint32_t run = runs_of(shape, a).begin;
  return run == runs_of(shape, b).begin && run_mark(shape, a, run) == run_mark(shape, b, run);
}

AttentionTask task_of(const TileRows& tile, std::uint32_t first_head, std::uint32_t n_heads) {
  return {.first_head = first_head,
          .n_heads = n_heads,
          .first = tile.first,
          .n_rows = tile.n_rows,
          .first_run = tile.first_run,
          .end_run = tile.end_run,
          .states = nullptr,
          .states_run = 0,
          .n_state_runs = 0};
}

class Planner {
 public:
  Planner(const AttentionShape& shape, std::span<const AttentionItem> items,
          const AttentionPlanMemory& memory)
      : shape_(shape), items_(items), memory_(memory) {}

  void make_tiles();
  void make_tasks(unsigned n_threads);
  AttentionPlan plan() const {
    return {memory_.rows.first(n_rows_), memory_.tasks.first(n_tasks_),
            memory_.folds.first(n_folds_)};
  }

 private:
  bool is_short(const AttentionItem& item) const { return 2 * item.n_rows <= tile_rows(shape_); }
  void add_rows(std::uint32_t item, std::uint32_t first_row, std::uint32_t n, bool is_shared);
  void add_task(const AttentionTask& tile, std::uint64_t cost);
  void add_groups(const AttentionTask& task, std::uint64_t n);
  AttentionTask heads_of(AttentionTask task, std::uint32_t begin, std::uint32_t end) const;
  bool take_states(AttentionTask& tile);
  std::size_t state_floats(const AttentionTask& task) const {  // of a head and run
    return state_tile_floats(task.n_rows * group_of(shape_), shape_.head_dim);
  }
  bool same_item(std::size_t a, std::size_t b) const {
    return memory_.rows[memory_.tiles[a].first].item == memory_.rows[memory_.tiles[b].first].item;
  }

  const AttentionShape& shape_;
  const std::span<const AttentionItem> items_;
  const AttentionPlanMemory& memory_;
  std::uint64_t task_cost_ = 0;
  std::size_t n_rows_ = 0, n_tiles_ = 0, n_tasks_ = 0, n_folds_ = 0, n_floats_ = 0;
};

/// Adds rows to the last tile when they share its blocks and find room there; else begins one.
void Planner::add_rows(std::uint32_t item, std::uint32_t first_row, std::uint32_t n,
                       bool is_shared) {
  LARDER_CHECK(n_rows_ + n <= memory_.rows.size());
  const AttentionItem& of = items_[item];
  const std::uint32_t position = of.n_past + first_row;
  const std::uint32_t begin = visible_rows(shape_, position).begin, end = position + n;
  const std::uint64_t use = std::uint64_t{end - begin} * n * group_of(shape_);
  const std::uint64_t read = (end - begin) * kRowCost;
  TileRows* tile = n_tiles_ > 0 ? &memory_.tiles[n_tiles_ - 1] : nullptr;
  if (!is_shared || tile == nullptr || tile->n_rows + n > tile_rows(shape_)) {
    tile = &memory_.tiles[n_tiles_++];
    *tile = {static_cast<std::uint32_t>(n_rows_), 0, begin / kRunTokens, 0, read};
  }
  tile->end_run = std::max(tile->end_run, (end + kRunTokens - 1) / kRunTokens);
  tile->cost += use;
  tile->n_rows += n;
  for (std::uint32_t r = 0; r < n; ++r) memory_.rows[n_rows_++] = {item, first_row + r};
}

void Planner::make_tiles() {
  std::size_t n_short = 0;
  const std::uint32_t step = tile_rows(shape_);
  for (std::uint32_t i = 0; i < items_.size(); ++i) {
    if (is_short(items_[i])) {
      memory_.order[n_short++] = i;
      continue;
    }
    for (std::uint32_t row = 0; row < items_[i].n_rows; row += step) {
      add_rows(i, row, std::min(step, items_[i].n_rows - row), false);
    }
  }
  const auto order = memory_.order.first(n_short);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return comes_before(shape_, items_[a], items_[b]);
  });
  for (std::size_t i = 0; i < n_short; ++i) {
    const AttentionItem& item = items_[order[i]];
    const bool is_shared = i > 0 && begin_alike(shape_, items_[order[i - 1]], item);
    add_rows(order[i], 0, item.n_rows, is_shared);
  }
}

void Planner::make_tasks(unsigned n_threads) {
  std::uint64_t total = 1;
  for (const TileRows& tile : memory_.tiles.first(n_tiles_)) total += shape_.n_kv_heads * tile.cost;
  task_cost_ = n_threads > 1 ? total / (kTasksPerThread * n_threads) + 1 : total;
  // The tiles of one prompt read the same rows of a head one after the other.
  for (std::size_t begin = 0, end = 0; begin < n_tiles_; begin = end) {
    while (end < n_tiles_ && same_item(begin, end)) ++end;
    const TileRows& first = memory_.tiles[begin];
    if (end == begin + 1 && first.n_rows * shape_.n_heads <= max_tile_queries(shape_)) {
      add_task(task_of(first, 0, shape_.n_kv_heads), shape_.n_kv_heads * first.cost);
      continue;
    }
    for (std::uint32_t head = 0; head < shape_.n_kv_heads; ++head) {
      for (std::size_t i = begin; i < end; ++i) {
        const TileRows& tile = memory_.tiles[i];
        add_task(task_of(tile, head, 1), tile.cost);
      }
    }
  }
}

void Planner::add_task(const AttentionTask& tile, std::uint64_t cost) {
  const std::uint64_t n_runs = tile.end_run - tile.first_run;
  const std::uint64_t n_wanted = (cost + task_cost_ / 2) / task_cost_;
  // By runs rather than by heads: those that stay together are read together.
  const std::uint64_t n_groups =
      std::clamp<std::uint64_t>((n_wanted + n_runs - 1) / n_runs, 1, tile.n_heads);
  const std::uint64_t n_parts = std::min(n_runs, (n_wanted + n_groups - 1) / n_groups);
  AttentionTask split = tile;
  if (n_parts <= 1 || !take_states(split)) {
    add_groups(tile, std::clamp<std::uint64_t>(n_wanted, 1, tile.n_heads));
    return;
  }
  for (std::uint32_t head = 0; head < tile.n_heads; ++head) {
    LARDER_CHECK(n_folds_ < memory_.folds.size());
    memory_.folds[n_folds_++] = heads_of(split, head, head + 1);
  }
  for (std::uint64_t part = 0; part < n_parts; ++part) {
    AttentionTask task = split;
    task.first_run = tile.first_run + static_cast<std::uint32_t>(n_runs * part / n_parts);
    task.end_run = tile.first_run + static_cast<std::uint32_t>(n_runs * (part + 1) / n_parts);
    add_groups(task, n_groups);
  }
}

/// The heads of a task as `n` tasks.
void Planner::add_groups(const AttentionTask& task, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) {
    LARDER_CHECK(n_tasks_ < memory_.tasks.size());
    memory_.tasks[n_tasks_++] = heads_of(task, static_cast<std::uint32_t>(task.n_heads * i / n),
                                         static_cast<std::uint32_t>(task.n_heads * (i + 1) / n));
  }
}

/// Heads [begin, end) of those of a task.
AttentionTask Planner::heads_of(AttentionTask task, std::uint32_t begin, std::uint32_t end) const {
  if (task.states != nullptr) task.states += begin * task.n_state_runs * state_floats(task);
  task.first_head += begin;
  task.n_heads = end - begin;
  return task;
}

bool Planner::take_states(AttentionTask& tile) {
  tile.states_run = tile.first_run;
  tile.n_state_runs = tile.end_run - tile.first_run;
  const std::size_t n = tile.n_heads * tile.n_state_runs * state_floats(tile);
  if (n > memory_.states.size() - n_floats_) return false;
  tile.states = memory_.states.data() + n_floats_;
  n_floats_ += n;
  return true;
}

}  // namespace

std::uint32_t tile_rows(const AttentionShape& shape) noexcept {
  return std::max(1U, kTileQueries / group_of(shape));
}

std::uint32_t max_tile_queries(const AttentionShape& shape) noexcept {
  return std::max(kTileQueries, shape.n_heads);
}

std::size_t max_shares(unsigned n_threads) noexcept {
  return n_threads > 1 ? kTasksPerThread * n_threads : 0;
}

// What is split costs 1.5 shares or more.
std::size_t max_folds(const AttentionShape& shape, unsigned n_threads) noexcept {
  return shape.n_kv_heads * max_shares(n_threads);
}

std::size_t max_tasks(const AttentionShape& shape, unsigned n_threads, std::uint32_t max_rows) {
  return std::size_t{shape.n_kv_heads} * max_rows + 3 * max_shares(n_threads);
}

AttentionPlan plan_attention(const AttentionShape& shape, std::span<const AttentionItem> items,
                             unsigned n_threads, const AttentionPlanMemory& memory) {
  Planner planner(shape, items, memory);
  planner.make_tiles();
  planner.make_tasks(n_threads);
  return planner.plan();
}

}  // namespace larder
