#include "kernels/column_sums.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "kernels/gumbel_noise.h"
#include "kernels/sealed_keys.h"
#include "kernels/sealed_run.h"

namespace larder {
namespace {

// One KV head of an observed item.
struct Columns {
  const Compute& compute;
  const AttentionShape& shape;
  const KvLayout& layout;
  const AttentionItem& item;
  std::uint32_t kv_head;
  const float* q;  // of the step
  float* scaled;   // [kMaxRunQueries, head_dim]
  float* scores;   // [kMaxRunQueries, stride]
  std::size_t stride;
  CreditRule rule;
  std::uint32_t layer;
  SealedKeys* sealed;  // null: the layer does not seal

  std::uint32_t group() const { return shape.n_heads / shape.n_kv_heads; }
  std::uint32_t n_seen(std::uint32_t row) const { return n_past_of(item, kv_head) + row + 1; }
  void gather(std::uint32_t query, std::size_t n) const;
  void score(std::size_t n, std::uint32_t n_rows) const;
  void score_sealed(std::uint32_t query, std::size_t n) const;
  float softmax(float* weights, std::uint32_t n_rows) const;
  void credit(const ObservedRows& observed, std::uint32_t query, float* weights, float* sums) const;
  void add(const ObservedRows& observed) const;
};

// Queries count row by row, and the heads of the group within a row.
void Columns::gather(std::uint32_t query, std::size_t n) const {
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t row = (query + i) / group(), head = (query + i) % group();
    const float* from =
        q + ((item.first_row + row) * shape.n_heads + kv_head * group() + head) * shape.head_dim;
    for (std::size_t c = 0; c < shape.head_dim; ++c) {
      scaled[i * shape.head_dim + c] = shape.scale * from[c];
    }
  }
}

void Columns::score(std::size_t n, std::uint32_t n_rows) const {
  const BlockShape block{shape.block_tokens, shape.head_dim};
  const auto blocks = item.heads[kv_head].blocks;
  const std::uint32_t run_blocks = kRunTokens / shape.block_tokens;
  const std::uint32_t n_blocks = (n_rows + shape.block_tokens - 1) / shape.block_tokens;
  std::array<const std::byte*, kMaxRunBlocks> parts;
  for (std::uint32_t begin = 0; begin < n_blocks; begin += run_blocks) {
    const std::uint32_t n_parts = std::min(run_blocks, n_blocks - begin);
    for (std::uint32_t b = 0; b < n_parts; ++b) {
      parts[b] = layout.pool + to_offset(blocks[begin + b]);
    }
    layout.k->run_scores(compute.simd)(scaled, {parts.data(), n_parts, 0}, block,
                                       {scores + begin * shape.block_tokens, n, stride});
  }
}

// Rows of the block in which a query stands are raw to it, those of earlier blocks sealed.
void Columns::score_sealed(std::uint32_t query, std::size_t n) const {
  const BlockShape block{shape.block_tokens, shape.head_dim};
  const auto own_block = [&](std::size_t i) {
    return (n_seen(static_cast<std::uint32_t>(query + i) / group()) - 1) / shape.block_tokens;
  };
  sealed->score(scaled, own_block(n - 1), {scores, n, stride});
  for (std::size_t i = 0, end = 0; i < n; i = end) {
    const std::uint32_t own = own_block(i);
    for (end = i; end < n && own_block(end) == own;) ++end;
    const std::byte* part =
        open_block(layout, item, {kv_head, shape.n_kv_heads, own, shape.block_tokens});
    float* to = scores + i * stride + std::size_t{own} * shape.block_tokens;
    layout.open_k->run_scores(compute.simd)(scaled + i * shape.head_dim, {&part, 1, 0}, block,
                                            {to, end - i, stride});
  }
}

/// What the query at `place` counts.
float count_of(const CreditRule& rule, const ObservedPlace& place, std::uint32_t row) {
  if (rule.rise == 0 || place.n_counting < 2) return 1.0F;
  // From the place among all: the same bits however the rows are cut into steps.
  return 1.0F + rule.rise * static_cast<float>(place.index + row) /
                    static_cast<float>(place.n_counting - 1);
}

/// Leaves the exponentials; returns their sum.
float Columns::softmax(float* weights, std::uint32_t n_rows) const {
  return compute.simd.exp_shift_sum(weights, compute.simd.max(weights, n_rows), n_rows, {});
}

/// `weights` are the scores of the query; overwritten.
void Columns::credit(const ObservedRows& observed, std::uint32_t query, float* weights,
                     float* sums) const {
  const std::uint32_t n_rows = n_seen(query / group());
  const std::uint32_t row = query / group() - observed.first;
  const float count = count_of(rule, observed.place, row);
  switch (rule.credit) {
    case Credit::weight:
      break;
    case Credit::unimportant: {
      const float mean = softmax(weights, n_rows) / static_cast<float>(n_rows);
      for (std::uint32_t j = 0; j < n_rows; ++j) sums[j] -= weights[j] < mean ? count : 0.0F;
      return;
    }
    case Credit::noisy: {
      const std::uint32_t position = observed.place.position + row;
      add_gumbel_noise({rule.seed, layer, kv_head * group() + query % group(), position},
                       {weights, n_rows});
      const std::uint32_t n_behind = position - std::min(position, observed.place.prompt_end);
      const float tau = 1.0F + 0.01F * static_cast<float>(std::min(n_behind, 100U));
      compute.simd.scale(1.0F / tau, weights, n_rows);
      break;
    }
    case Credit::largest: {
      const float factor = 1.0F / softmax(weights, n_rows);
      for (std::uint32_t j = 0; j < n_rows; ++j) sums[j] = std::max(sums[j], factor * weights[j]);
      return;
    }
  }
  const float factor = count / softmax(weights, n_rows);
  compute.simd.axpy(factor, weights, sums, n_rows);
  if (observed.far == 0) return;
  const std::uint32_t n_far = n_rows - std::min(n_rows, observed.place.n_near);
  compute.simd.axpy(factor, weights, sums + observed.far, n_far);
}

void Columns::add(const ObservedRows& observed) const {
  float* sums = observed.sums + kv_head * observed.stride;
  const std::uint32_t end = (observed.first + observed.n_rows) * group();
  for (std::uint32_t query = observed.first * group(); query < end;) {
    const std::size_t n = std::min<std::size_t>(simd::kMaxRunQueries, end - query);
    const std::uint32_t last = (query + static_cast<std::uint32_t>(n) - 1) / group();
    const std::size_t n_sums = observed.far != 0 ? observed.far : observed.stride;
    LARDER_CHECK(n_seen(last) <= n_sums && n_seen(last) <= stride);
    gather(query, n);
    sealed != nullptr ? score_sealed(query, n) : score(n, n_seen(last));
    for (std::size_t i = 0; i < n; ++i, ++query) {
      const std::uint32_t n_rows = n_seen(query / group());
      float* weights = scores + i * stride;
      if (shape.soft_cap != 0) compute.simd.tanh_cap(weights, shape.soft_cap, n_rows);
      credit(observed, query, weights, sums);
    }
  }
}

constexpr std::size_t round_up(std::size_t n, std::size_t unit) {
  return (n + unit - 1) / unit * unit;
}

}  // namespace

ColumnScratch::ColumnScratch(unsigned n_threads, std::uint32_t max_rows, std::uint32_t head_dim,
                             bool seals)
    : stride_(round_up(max_rows, kMaxBlockTokens)),
      thread_floats_(simd::kMaxRunQueries * (stride_ + round_up(head_dim, 16)) +
                     (seals ? round_up(SealedKeys::n_floats(stride_, head_dim), 16) : 0)),
      seals_(seals),
      floats_(n_threads * thread_floats_) {}

void add_column_sums(const Compute& compute, const AttentionShape& shape, const KvLayout& layout,
                     std::span<const AttentionItem> items, const float* q,
                     const Observation& observation) {
  if (observation.rows.empty()) return;  // of queries that count otherwise
  ColumnScratch& scratch = observation.scratch;
  LARDER_CHECK(shape.window == 0 && (!layout.seals() || scratch.seals_));
  compute.pool.for_each(
      observation.rows.size() * shape.n_kv_heads, [&](std::size_t task, unsigned thread) {
        const ObservedRows& observed = observation.rows[task / shape.n_kv_heads];
        const auto kv_head = static_cast<std::uint32_t>(task % shape.n_kv_heads);
        const AttentionItem& item = items[observed.item];
        float* scores = scratch.floats_.data() + thread * scratch.thread_floats_;
        float* scaled = scores + simd::kMaxRunQueries * scratch.stride_;
        SealedKeys sealed(compute, layout, {shape.block_tokens, shape.head_dim},
                          item.heads[kv_head].blocks,
                          scaled + simd::kMaxRunQueries * round_up(shape.head_dim, 16));
        const Columns columns{compute,
                              shape,
                              layout,
                              item,
                              kv_head,
                              q,
                              scaled,
                              scores,
                              scratch.stride_,
                              observed.rule,
                              observation.layer,
                              layout.seals() ? &sealed : nullptr};
        columns.add(observed);
      });
}

}  // namespace larder
