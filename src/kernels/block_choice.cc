#include "kernels/block_choice.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "base/check.h"
#include "kernels/key_bounds.h"
#include "kernels/key_samples.h"
#include "kernels/sealed_run.h"

namespace larder {
namespace {

/// Numbers that compare as the scores do.
std::uint32_t order_key(float score) {
  const auto bits = std::bit_cast<std::uint32_t>(score);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}

std::size_t blocks_of(std::uint32_t max_context, std::uint32_t block_tokens) {
  return std::size_t{max_context} / block_tokens + 1;
}

}  // namespace

std::uint32_t BlockRule::n_chosen(std::uint32_t n_before) const noexcept {
  std::uint32_t n = n_blocks;
  if (n == 0) {
    const double wanted = std::ceil(share * (double{1} + n_before));
    n = std::max(static_cast<std::uint32_t>(wanted), n_least);
  }
  return std::min(n_before, n - 1);
}

void select_greatest(std::span<const float> scores, std::span<std::uint32_t> work,
                     std::span<std::uint32_t> out) {
  std::transform(scores.begin(), scores.end(), work.begin(), order_key);
  const auto last = work.begin() + static_cast<std::ptrdiff_t>(out.size()) - 1;
  std::nth_element(work.begin(), last, work.end(), std::greater<>());
  const std::uint32_t least = *last;
  const auto n_above =
      std::count_if(work.begin(), last, [least](std::uint32_t key) { return key > least; });
  std::size_t n_equal = out.size() - static_cast<std::size_t>(n_above);  // that are chosen
  std::size_t n = 0;
  for (std::uint32_t i = 0; n < out.size(); ++i) {
    const std::uint32_t key = order_key(scores[i]);
    if (key < least || (key == least && n_equal == 0)) continue;
    if (key == least) --n_equal;
    out[n++] = i;
  }
}

BlockChoice::BlockChoice(const AttentionShape& shape, const BlockRule& rule, const Limits& limits)
    : rule_(rule),
      n_kv_heads_(shape.n_kv_heads),
      group_(shape.n_heads / shape.n_kv_heads),
      head_dim_(shape.head_dim),
      max_blocks_(blocks_of(limits.max_context, shape.block_tokens)),
      stride_(std::size_t{rule.n_chosen(static_cast<std::uint32_t>(max_blocks_ - 1))} + 1),
      n_lists_(std::clamp<std::size_t>(
          limits.list_bytes / (n_kv_heads_ * stride_ * sizeof(BlockId)), 1, limits.max_rows)),
      heads_(n_lists_ * n_kv_heads_),
      places_(limits.n_threads * max_blocks_),
      blocks_(n_lists_ * n_kv_heads_ * stride_),
      floats_(limits.n_threads * (std::size_t{2} * group_ * head_dim_ + max_blocks_)),
      orders_(limits.n_threads * max_blocks_),
      parts_(limits.n_threads * max_blocks_) {
  queries_.reserve(limits.max_rows);
  items_.reserve(std::size_t{limits.max_rows} + limits.max_sequences);
}

std::size_t BlockChoice::scratch_bytes(const AttentionShape& shape, const Limits& limits) noexcept {
  const std::size_t n_blocks = blocks_of(limits.max_context, kMinBlockTokens);
  const std::size_t of_lists =
      std::max(limits.list_bytes, shape.n_kv_heads * n_blocks * sizeof(BlockId));
  const std::size_t of_thread =
      std::size_t{2} * shape.n_heads / shape.n_kv_heads * shape.head_dim * sizeof(float) +
      n_blocks * (3 * sizeof(float) + sizeof(std::byte*));
  const std::size_t of_row =
      sizeof(Query) + sizeof(AttentionItem) + shape.n_kv_heads * sizeof(KvRows);
  return of_lists + limits.n_threads * of_thread +
         (std::size_t{limits.max_rows} + limits.max_sequences) * of_row;
}

void BlockChoice::list_queries(const Call& call) {
  queries_.clear();
  for (std::uint32_t i = 0; i < call.items.size(); ++i) {
    if (rule_.marks == BlockMarks::samples) list_together(call, i);
    for (std::uint32_t row = call.n_full[i]; row < call.items[i].n_rows; ++row) {
      queries_.push_back({i, row, 1, false});
    }
  }
}

/// The first queries of an item, block by block.
void BlockChoice::list_together(const Call& call, std::uint32_t item) {
  const AttentionItem& of = call.items[item];
  const std::uint32_t n = call.shape.block_tokens;
  const std::uint32_t n_rows = std::min(call.n_full[item], of.n_rows);
  for (std::uint32_t row = 0; row < n_rows;) {
    const std::uint32_t n_in_block = std::min(n - (of.n_past + row) % n, n_rows - row);
    queries_.push_back({item, row, n_in_block, true});
    row += n_in_block;
  }
}

/// Without its heads.
AttentionItem BlockChoice::item_of(const Call& call, const Query& query) const {
  const AttentionItem& of = call.items[query.item];
  const std::uint32_t n = call.shape.block_tokens;
  const std::uint32_t position = of.n_past + query.row, own = position / n;
  AttentionItem item{};
  item.first_row = of.first_row + query.row;
  item.n_rows = query.n_rows;
  item.n_past = rule_.n_chosen(own) * n + position % n;
  item.fresh_slot = of.fresh_slot + own - of.n_past / n;
  item.ends_in_fresh = own != (of.n_past + of.n_rows - 1) / n;
  return item;
}

std::span<const AttentionItem> BlockChoice::choose(const Compute& compute, const Call& call,
                                                   std::size_t first) {
  LARDER_DCHECK(call.shape.window == 0 && call.layout.marks == rule_.marks);
  items_.clear();
  if (first == 0) {
    list_queries(call);
    for (std::size_t i = 0; i < call.items.size(); ++i) {
      if (call.n_full[i] == 0 || rule_.marks == BlockMarks::samples) continue;
      AttentionItem& item = items_.emplace_back(call.items[i]);
      const std::uint32_t n = call.shape.block_tokens;
      const std::uint32_t end = item.n_past + item.n_rows;
      item.n_rows = std::min(item.n_rows, call.n_full[i]);
      item.ends_in_fresh = (item.n_past + item.n_rows - 1) / n != (end - 1) / n;
    }
  }
  const std::size_t n_choosing = std::min(queries_.size() - first, n_lists_);
  const std::size_t n_full = items_.size();
  for (std::size_t i = 0; i < n_choosing; ++i) {
    AttentionItem& item = items_.emplace_back(item_of(call, queries_[first + i]));
    item.heads = std::span(heads_).subspan(i * n_kv_heads_, n_kv_heads_);
  }
  compute.pool.for_each(n_choosing * n_kv_heads_, [&](std::size_t task, unsigned thread) {
    choose_in_head(compute, call, queries_[first + task / n_kv_heads_],
                   static_cast<std::uint32_t>(task % n_kv_heads_), thread, task);
  });
  return std::span(items_).first(n_full + n_choosing);
}

BlockChoice::Work BlockChoice::work_of(unsigned thread) {
  const std::size_t n_split = std::size_t{2} * group_ * head_dim_;
  float* const floats = floats_.data() + thread * (n_split + max_blocks_);
  return {floats, floats + n_split, orders_.data() + thread * max_blocks_,
          parts_.data() + thread * max_blocks_};
}

/// The list of one query and head, `slot` among those in memory.
void BlockChoice::choose_in_head(const Compute& compute, const Call& call, const Query& query,
                                 std::uint32_t kv_head, unsigned thread, std::size_t slot) {
  const AttentionItem& item = call.items[query.item];
  const KvRows& cached = item.heads[kv_head];
  LARDER_DCHECK(cached.first_block == 0 && cached.n_fewer == 0);
  const std::uint32_t own = (item.n_past + query.row) / call.shape.block_tokens;
  const std::uint32_t n_chosen = rule_.n_chosen(own);
  BlockId* const list = blocks_.data() + slot * stride_;
  std::size_t n = n_chosen;
  if (n_chosen == own) {
    std::copy_n(cached.blocks.begin(), own, list);
  } else {
    const auto places = std::span(places_.data() + thread * max_blocks_, n_chosen);
    best_blocks(compute, call, query, kv_head, work_of(thread), places);
    std::transform(places.begin(), places.end(), list,
                   [&](std::uint32_t place) { return cached.blocks[place]; });
  }
  if (!call.layout.seals()) list[n++] = cached.blocks[own];
  heads_[slot] = {{list, n}, 0, cached.open};
}

/// out: as the marks of blocks meet them.
void BlockChoice::set_queries(const Call& call, const Query& query, std::uint32_t kv_head,
                              float* out) const {
  const AttentionItem& item = call.items[query.item];
  const std::size_t row = std::size_t{item.first_row} + query.row;
  const float* q = call.q + (row * n_kv_heads_ + kv_head) * group_ * head_dim_;
  if (rule_.marks == BlockMarks::bounds) {
    for (std::size_t i = 0; i < group_; ++i) {
      split_query(q + i * head_dim_, head_dim_, out + 2 * i * head_dim_);
    }
    return;
  }
  std::fill_n(out, head_dim_, 0.0F);
  if (query.by_sample) {
    const std::uint32_t own = (item.n_past + query.row) / call.shape.block_tokens;
    const std::byte* before = call.layout.pool + to_offset(item.heads[kv_head].blocks[own - 1]);
    add_sample(before + call.layout.marks_offset + 2 * std::size_t{head_dim_}, head_dim_, out);
    return;
  }
  for (std::size_t i = 0; i < group_; ++i) {
    for (std::size_t c = 0; c < head_dim_; ++c) out[c] += q[i * head_dim_ + c];
  }
}

/// Fewer than all blocks before the query's own.
void BlockChoice::best_blocks(const Compute& compute, const Call& call, const Query& query,
                              std::uint32_t kv_head, const Work& work,
                              std::span<std::uint32_t> out) const {
  const AttentionItem& item = call.items[query.item];
  const std::uint32_t own = (item.n_past + query.row) / call.shape.block_tokens;
  const auto n_first = std::min(rule_.n_first, static_cast<std::uint32_t>(out.size()));
  const std::uint32_t n_local = rule_.n_local;
  const auto local = out.last(n_local), best = out.subspan(n_first, out.size() - n_first - n_local);
  for (std::uint32_t i = 0; i < n_first; ++i) out[i] = i;
  for (std::uint32_t i = 0; i < n_local; ++i) local[i] = own - n_local + i;
  if (best.empty()) return;
  set_queries(call, query, kv_head, work.split);
  const std::span<const BlockId> blocks = item.heads[kv_head].blocks;
  const std::size_t n = own - n_first - n_local;
  for (std::size_t b = 0; b < n; ++b) {  // samples tell of the block `n_local` before
    const BlockId marked = blocks[n_first + b + n_local];
    work.marks[b] = call.layout.pool + to_offset(marked) + call.layout.marks_offset;
  }
  const bool by_bounds = rule_.marks == BlockMarks::bounds;
  compute.simd.bound_scores(work.split, by_bounds ? group_ : 1, {work.marks, n, 0},
                            std::size_t{head_dim_} * (by_bounds ? 2 : 1), work.scores);
  select_greatest({work.scores, n}, {work.order, n}, best);
  for (std::uint32_t& place : best) place += n_first;
}

void BlockChoice::attend_chosen(const Compute& compute, const Call& call) {
  std::size_t first = 0;
  do {
    const auto items = choose(compute, call, first);
    attend(compute, call.shape, call.layout, items, call.q, call.out, call.scratch);
    first += n_lists_;
  } while (first < queries_.size());
}

}  // namespace larder
