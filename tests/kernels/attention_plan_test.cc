#include "kernels/attention_plan.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <tuple>
#include <vector>

namespace larder {
namespace {

constexpr std::uint32_t kBlockTokens = 16, kHeadDim = 8;

std::uint32_t pick(std::mt19937& rng, std::uint32_t n) {
  return static_cast<std::uint32_t>(rng()) % n;
}

/// A step of some sequences, none of which share blocks.
struct Step {
  std::vector<std::vector<BlockId>> blocks;
  std::vector<KvRows> heads;
  std::vector<AttentionItem> items;
  std::uint32_t n_rows = 0, max_context = 0;
};

Step make_step(const AttentionShape& shape, std::uint32_t n_items, std::uint32_t max_rows,
               std::mt19937& rng) {
  Step step;
  step.blocks.resize(n_items);
  step.heads.resize(std::size_t{n_items} * shape.n_kv_heads);
  std::uint32_t next = 0;
  for (std::uint32_t i = 0; i < n_items; ++i) {
    const std::uint32_t n_past = pick(rng, 6000);
    const std::uint32_t n_rows = pick(rng, 2) == 0 ? 1 : 1 + pick(rng, max_rows);
    step.blocks[i].resize((n_past + n_rows + kBlockTokens - 1) / kBlockTokens);
    for (BlockId& id : step.blocks[i]) id = BlockId{next++};
    KvRows* const heads = step.heads.data() + std::size_t{i} * shape.n_kv_heads;
    for (std::uint32_t h = 0; h < shape.n_kv_heads; ++h) heads[h] = {step.blocks[i], 0, {}};
    AttentionItem item{};
    item.first_row = step.n_rows;
    item.n_rows = n_rows;
    item.n_past = n_past;
    item.heads = {heads, shape.n_kv_heads};
    step.items.push_back(item);
    step.n_rows += n_rows;
    step.max_context = std::max(step.max_context, n_past + n_rows);
  }
  return step;
}

struct Memory {
  std::vector<std::uint32_t> order;
  std::vector<TileRow> rows;
  std::vector<TileRows> tiles;
  std::vector<AttentionTask> tasks, folds;
  std::vector<float> states;

  Memory(const AttentionShape& shape, unsigned n_threads, std::uint32_t n_rows,
         std::size_t n_states)
      : order(n_rows),
        rows(n_rows),
        tiles(n_rows),
        tasks(max_tasks(shape, n_threads, n_rows)),
        folds(max_folds(shape, n_threads)),
        states(n_states) {}
  AttentionPlanMemory view() { return {order, rows, tiles, tasks, folds, states}; }
};

/// How often a plan works on each row, head and run; and where the states of split ones stand.
struct Coverage {
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>, int> worked;
  std::map<const float*, int> written, folded;

  Coverage(const AttentionShape& shape, const AttentionPlan& plan) {
    const auto stride = [&](const AttentionTask& t) {
      return state_tile_floats(t.n_rows * (shape.n_heads / shape.n_kv_heads), shape.head_dim);
    };
    for (const AttentionTask& t : plan.tasks) {
      for (std::uint32_t h = 0; h < t.n_heads; ++h) {
        for (std::uint32_t run = t.first_run; run < t.end_run; ++run) {
          for (const TileRow& row : plan.rows.subspan(t.first, t.n_rows)) {
            ++worked[{row.item, row.row, t.first_head + h, run}];
          }
          if (t.states == nullptr) continue;
          ++written[t.states + (h * t.n_state_runs + (run - t.states_run)) * stride(t)];
        }
      }
    }
    for (const AttentionTask& t : plan.folds) {
      EXPECT_EQ(t.n_heads, 1U);
      for (std::uint32_t run = t.first_run; run < t.end_run; ++run) {
        ++folded[t.states + (run - t.states_run) * stride(t)];
      }
    }
  }
};

TEST(AttentionPlan, EveryRowMeetsEveryRunOfEveryHeadOnce) {
  std::mt19937 rng(11);
  for (const auto& [n_heads, n_kv_heads] : {std::pair{4U, 1U}, {6U, 3U}, {32U, 8U}, {64U, 16U}}) {
    const AttentionShape shape{n_heads, n_kv_heads, kHeadDim, kBlockTokens, 0, 1.0F, 0};
    for (int turn = 0; turn < 30; ++turn) {
      const unsigned n_threads = turn % 3 == 0 ? 1 : 1 + pick(rng, 40);
      const Step step = make_step(shape, 1 + pick(rng, 12), turn % 2 == 0 ? 4 : 300, rng);
      // Room for the states of all, of some, of none.
      const std::size_t all =
          std::size_t{step.n_rows} * n_heads * (kHeadDim + 2) * (step.max_context / kRunTokens + 1);
      Memory memory(shape, n_threads, step.n_rows, turn % 4 == 0 ? 0 : all / (1 + pick(rng, 20)));
      const AttentionPlan plan = plan_attention(shape, step.items, n_threads, memory.view());
      const Coverage coverage(shape, plan);
      std::size_t n_expected = 0;
      for (std::uint32_t i = 0; i < step.items.size(); ++i) {
        for (std::uint32_t r = 0; r < step.items[i].n_rows; ++r) {
          for (std::uint32_t h = 0; h < n_kv_heads; ++h) {
            for (std::uint32_t run = 0; run <= (step.items[i].n_past + r) / kRunTokens; ++run) {
              const auto found = coverage.worked.find({i, r, h, run});
              ASSERT_TRUE(found != coverage.worked.end() && found->second == 1)
                  << "item " << i << " row " << r << " head " << h << " run " << run;
              ++n_expected;
            }
          }
        }
      }
      EXPECT_GE(coverage.worked.size(), n_expected);  // a tile's rows end in different runs
      EXPECT_EQ(coverage.written, coverage.folded);   // each state once, none beside another
      for (const auto& [state, n] : coverage.written) EXPECT_EQ(n, 1);
    }
  }
}

TEST(AttentionPlan, OneDecodingRowKeepsItsHeadsTogether) {
  const AttentionShape shape{32, 8, kHeadDim, kBlockTokens, 0, 1.0F, 0};
  std::vector<BlockId> blocks(16384 / kBlockTokens);
  const std::vector<KvRows> heads(8, KvRows{blocks, 0, {}});
  AttentionItem item{};
  item.n_rows = 1;
  item.n_past = 16383;
  item.heads = heads;
  for (const unsigned n_threads : {1U, 2U, 4U}) {
    Memory memory(shape, n_threads, 1, std::size_t{1} << 20);
    const AttentionPlan plan = plan_attention(shape, {&item, 1}, n_threads, memory.view());
    EXPECT_EQ(plan.tasks.size(), n_threads == 1 ? 1 : 8 * n_threads);
    for (const AttentionTask& task : plan.tasks) EXPECT_EQ(task.n_heads, 8U);
  }
  // A short context has too few runs for that.
  item.n_past = 100;
  Memory memory(shape, 2, 1, std::size_t{1} << 20);
  const AttentionPlan plan = plan_attention(shape, {&item, 1}, 2, memory.view());
  EXPECT_EQ(plan.tasks.size(), 8U);
}

}  // namespace
}  // namespace larder
