#include "kernels/attention.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/attention_plan.h"
#include "kernels/attention_run.h"
#include "kernels/sealed_run.h"

namespace larder {
namespace {

constexpr std::size_t kMaxStateBytes = std::size_t{16} << 20;

bool is_f16(const KvCodec& codec) { return codec.format == KvFormat::f16; }

constexpr std::size_t round_up(std::size_t n) { return (n + 15) / 16 * 16; }  // whole cache lines

// One thread's share of the scratch.
struct Workspace {
  float* q;        // [tile queries, head_dim]
  float* scores;   // [kMaxHalfQueries, kRunTokens]
  float* run;      // state tile of the run at hand
  float* running;  // state tile of the runs so far
  float* decoded;  // what SealedRun decodes into; not there without sealed formats

  static std::size_t n_floats(const AttentionShape& shape, bool decodes) {
    const std::size_t n = max_tile_queries(shape);
    return round_up(n * shape.head_dim) + simd::kMaxHalfQueries * kRunTokens +
           2 * round_up(state_tile_floats(n, shape.head_dim)) +
           (decodes ? SealedRun::n_floats(shape.head_dim) : 0);
  }
  Workspace(float* memory, const AttentionShape& shape, std::size_t n_queries)
      : q(memory),
        scores(q + round_up(n_queries * shape.head_dim)),
        run(scores + simd::kMaxHalfQueries * kRunTokens),
        running(run + round_up(state_tile_floats(n_queries, shape.head_dim))),
        decoded(running + round_up(state_tile_floats(n_queries, shape.head_dim))) {}
};

}  // namespace

struct AttentionScratchAccess {
  AttentionScratch& scratch;

  AttentionPlanMemory plan_memory() const {
    return {scratch.order_.span(), scratch.rows_.span(),  scratch.tiles_.span(),
            scratch.tasks_.span(), scratch.folds_.span(), scratch.states_.span()};
  }
  bool decodes() const { return scratch.decodes_; }
  float* workspace(unsigned thread, const AttentionShape& shape) const {
    LARDER_CHECK(Workspace::n_floats(shape, scratch.decodes_) <= scratch.thread_floats_);
    LARDER_CHECK((thread + 1) * scratch.thread_floats_ <= scratch.workspaces_.size());
    return scratch.workspaces_.data() + thread * scratch.thread_floats_;
  }
};

namespace {

// One call of `attend`.
struct Attend {
  const AttentionContext& context;
  const AttentionPlan& plan;
  const float* q;
  float* out;
  AttentionScratchAccess scratch;

  std::uint32_t group() const { return context.shape.n_heads / context.shape.n_kv_heads; }
  // Of one of the task's KV heads.
  std::size_t n_queries(const AttentionTask& task) const { return task.n_rows * group(); }
  std::span<const TileRow> rows(const AttentionTask& task) const {
    return plan.rows.subspan(task.first, task.n_rows);
  }
  // `queries` [task.n_heads, n_queries, head_dim]
  QueryTile tile(const AttentionTask& task, std::uint32_t head, const float* queries) const {
    const bool is_last = head + 1 == task.n_heads;
    return {.rows = rows(task),
            .kv_head = task.first_head + head,
            .group = group(),
            .q = queries + head * n_queries(task) * context.shape.head_dim,
            .next_head = task.first_head + (is_last ? 0 : head + 1),
            .next_is_next_run = is_last};
  }
  // Offset in q and out of the group of query heads at `row` of the batch.
  std::size_t offset(std::uint32_t kv_head, const TileRow& row) const {
    const AttentionShape& shape = context.shape;
    const std::size_t batch_row = context.items[row.item].first_row + row.row;
    return (batch_row * shape.n_heads + std::size_t{kv_head} * group()) * shape.head_dim;
  }

  void work(const AttentionTask& task, unsigned thread) const;
  void fold(const AttentionTask& task) const;
  void finish(const QueryTile& tile, const StateTile& states) const;
};

void Attend::work(const AttentionTask& task, unsigned thread) const {
  const AttentionShape& shape = context.shape;
  const std::size_t n = n_queries(task);
  const Workspace space(scratch.workspace(thread, shape), shape, task.n_heads * n);
  const std::size_t row_floats = std::size_t{group()} * shape.head_dim;
  float* to = space.q;
  for (std::uint32_t head = 0; head < task.n_heads; ++head) {
    for (const TileRow& row : rows(task)) {
      const float* from = q + offset(task.first_head + head, row);
      for (std::size_t i = 0; i < row_floats; ++i) *to++ = shape.scale * from[i];
    }
  }
  const std::size_t stride = state_tile_floats(n, shape.head_dim);
  const RunSpace run_space{space.scores, space.decoded};
  if (task.states != nullptr) {
    for (std::uint32_t run = task.first_run; run < task.end_run; ++run) {
      for (std::uint32_t head = 0; head < task.n_heads; ++head) {
        float* states = task.states + (head * task.n_state_runs + (run - task.states_run)) * stride;
        attend_run(context, tile(task, head, space.q), run, run_space, state_tile(states, n));
      }
    }
    return;
  }
  const StateTile run_states = state_tile(space.run, n);
  const auto states = [&](std::uint32_t head) {
    return state_tile(space.running + head * stride, n);
  };
  for (std::uint32_t head = 0; head < task.n_heads; ++head) std::fill_n(states(head).sum, n, 0.0F);
  for (std::uint32_t run = task.first_run; run < task.end_run; ++run) {
    for (std::uint32_t head = 0; head < task.n_heads; ++head) {
      const QueryTile queries = tile(task, head, space.q);
      attend_run(context, queries, run, run_space, run_states);
      merge_run(context, queries, run, run_states, states(head));
    }
  }
  for (std::uint32_t head = 0; head < task.n_heads; ++head) {
    finish(tile(task, head, space.q), states(head));
  }
}

// Merges the run states of a head of a split tile in ascending order, as `work` does for one that
// is not.
void Attend::fold(const AttentionTask& task) const {
  const std::size_t n = n_queries(task);
  const std::size_t stride = state_tile_floats(n, context.shape.head_dim);
  const QueryTile queries = tile(task, 0, nullptr);
  // A row that does not see the first run has no state there yet: the empty one.
  const StateTile states = state_tile(task.states, n);
  for (std::uint32_t r = 0; r < task.n_rows; ++r) {
    const TileRow& row = queries.rows[r];
    const std::uint32_t position = n_past_of(context.items[row.item], queries.kv_head) + row.row;
    if (!visible_rows_of_run(context.shape, position, task.first_run).empty()) continue;
    std::fill_n(states.sum + std::size_t{r} * group(), group(), 0.0F);
  }
  for (std::uint32_t run = task.first_run + 1; run < task.end_run; ++run) {
    float* from = task.states + (run - task.states_run) * stride;
    merge_run(context, queries, run, state_tile(from, n), states);
  }
  finish(queries, states);
}

void Attend::finish(const QueryTile& tile, const StateTile& states) const {
  const std::size_t head_dim = context.shape.head_dim;
  for (std::uint32_t r = 0; r < tile.rows.size(); ++r) {
    float* to = out + offset(tile.kv_head, tile.rows[r]);
    for (std::size_t g = 0; g < group(); ++g) {
      const std::size_t i = std::size_t{r} * group() + g;
      const float* from = states.out + i * head_dim;
      const float factor = 1.0F / states.sum[i];
      for (std::size_t c = 0; c < head_dim; ++c) to[g * head_dim + c] = from[c] * factor;
    }
  }
}

}  // namespace

void merge_state(AttentionState& into, const AttentionState& from, std::size_t head_dim) {
  if (from.sum == 0) return;
  if (into.sum == 0) {
    into.max = from.max;
    into.sum = from.sum;
    std::copy_n(from.out, head_dim, into.out);
    return;
  }
  if (into.max >= from.max) {
    const float b = std::exp(from.max - into.max);
    into.sum += from.sum * b;
    for (std::size_t c = 0; c < head_dim; ++c) into.out[c] += from.out[c] * b;
  } else {
    const float a = std::exp(into.max - from.max);
    into.max = from.max;
    into.sum = into.sum * a + from.sum;
    for (std::size_t c = 0; c < head_dim; ++c) into.out[c] = into.out[c] * a + from.out[c];
  }
}

AttentionScratch::AttentionScratch(const AttentionShape& shape, unsigned n_threads,
                                   std::uint32_t max_rows, std::uint32_t max_context,
                                   std::uint32_t max_sequences, bool decodes)
    : thread_floats_(Workspace::n_floats(shape, decodes)),
      decodes_(decodes),
      workspaces_(n_threads * thread_floats_),
      order_(max_rows),
      rows_(max_rows),
      tiles_(max_rows),
      tasks_(max_tasks(shape, n_threads, max_rows)),
      folds_(max_folds(shape, n_threads)) {
  if (n_threads == 1) return;  // nothing is split
  const std::size_t n_runs = (std::size_t{max_context} + kRunTokens - 1) / kRunTokens;
  const std::size_t n_decoding =
      std::min(max_shares(n_threads), std::size_t{max_sequences} * shape.n_kv_heads);
  const std::size_t group = shape.n_heads / shape.n_kv_heads;
  const std::size_t n_queries = n_decoding * group + max_tile_queries(shape);
  states_ = Buffer<float>(std::min(kMaxStateBytes / sizeof(float),
                                   n_runs * state_tile_floats(n_queries, shape.head_dim)));
}
AttentionScratch::~AttentionScratch() = default;
AttentionScratch::AttentionScratch(AttentionScratch&&) noexcept = default;
AttentionScratch& AttentionScratch::operator=(AttentionScratch&&) noexcept = default;

void attend(const Compute& compute, const AttentionShape& shape, const KvLayout& layout,
            std::span<const AttentionItem> items, const float* q, float* out,
            AttentionScratch& scratch) {
  const KvCodec& k = layout.seals() ? *layout.open_k : *layout.k;
  const KvCodec& v = layout.seals() ? *layout.open_v : *layout.v;
  const AttentionContext context{
      compute.simd,
      shape,
      layout,
      items,
      k.run_scores(compute.simd),
      v.run_accumulate(compute.simd),
      is_f16(k) || is_f16(v) ? compute.simd.half_queries : compute.simd.run_queries};
  const AttentionScratchAccess access{scratch};
  LARDER_CHECK(!layout.seals() || access.decodes());
  const AttentionPlan plan =
      plan_attention(shape, items, compute.pool.n_threads(), access.plan_memory());
  const Attend call{context, plan, q, out, access};
  compute.pool.for_each(plan.tasks.size(),
                        [&](std::size_t i, unsigned thread) { call.work(plan.tasks[i], thread); });
  compute.pool.for_each(plan.folds.size(),
                        [&](std::size_t i, unsigned) { call.fold(plan.folds[i]); });
}

}  // namespace larder
