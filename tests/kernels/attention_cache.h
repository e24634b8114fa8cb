// Sequences with a paged KV cache for tests of attention: runs a schedule of steps over them.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "kernels/attention.h"
#include "kernels/random_keys.h"

namespace larder {

/// What does not depend on the schedule: the shape and every sequence's rows.
struct AttentionCase {
  AttentionShape shape;
  KvFormat k = KvFormat::bf16, v = KvFormat::bf16;
  std::vector<std::uint32_t> lengths;             // rows of each sequence
  std::vector<std::vector<float>> q, key, value;  // per sequence [length, heads, head_dim]
  std::uint32_t raw_blocks = 0;
  /// Steps that begin behind so many rows meet them with queries for sinks, which are the same as
  /// those for other rows.
  std::uint32_t n_sinks = 0;
  BlockMarks marks = BlockMarks::none;
};

inline AttentionCase make_case(const AttentionShape& shape, KvFormat k, KvFormat v,
                               std::vector<std::uint32_t> lengths, std::mt19937& rng) {
  AttentionCase c{shape, k, v, std::move(lengths), {}, {}, {}, 0, 0, BlockMarks::none};
  std::normal_distribution<float> normal;
  const auto rows = [&](std::size_t n) {
    std::vector<float> x(n);
    for (float& f : x) f = normal(rng);
    return x;
  };
  for (const std::uint32_t length : c.lengths) {
    c.q.push_back(rows(std::size_t{length} * shape.n_heads * shape.head_dim));
    c.key.push_back(rows(std::size_t{length} * shape.n_kv_heads * shape.head_dim));
    c.value.push_back(rows(std::size_t{length} * shape.n_kv_heads * shape.head_dim));
  }
  return c;
}

/// A step: how many rows of which sequence, in batch order.
using Step = std::vector<std::pair<std::uint32_t, std::uint32_t>>;  // (sequence, n_rows)
using Schedule = std::vector<Step>;

/// Every sequence in chunks of random size, in random company.
inline Schedule random_schedule(const AttentionCase& c, std::uint32_t max_chunk,
                                std::mt19937& rng) {
  std::vector<std::uint32_t> left = c.lengths;
  Schedule schedule;
  while (std::any_of(left.begin(), left.end(), [](auto n) { return n > 0; })) {
    Step step;
    for (std::uint32_t s = 0; s < left.size(); ++s) {
      if (left[s] == 0 || rng() % 4 == 0) continue;
      const auto n =
          std::min<std::uint32_t>(left[s], 1 + static_cast<std::uint32_t>(rng() % max_chunk));
      step.emplace_back(s, n);
      left[s] -= n;
    }
    std::shuffle(step.begin(), step.end(), rng);
    if (!step.empty()) schedule.push_back(step);
  }
  return schedule;
}

/// The paged cache of the sequences of a case. Blocks stand in random order; bytes that no row was
/// written to, and blocks that left the window, are all ones: NaN in every format.
/// With `n_shared` rows (whole blocks) all sequences refer to the first one's blocks for these; the
/// schedule must have it compute them before the others run, and those begin behind them.
class PagedCache {
 public:
  using AttendFn =
      std::function<void(const Compute&, const AttentionShape&, const KvLayout&,
                         std::span<const AttentionItem>, const float*, float*, AttentionScratch&)>;

  PagedCache(const AttentionCase& c, std::mt19937& rng, std::uint32_t n_shared = 0) : case_(c) {
    const BlockShape block{c.shape.block_tokens, c.shape.head_dim};
    layout_ = make_kv_layout(kv_codec(c.k), kv_codec(c.v), block, c.marks);
    layout_.raw_blocks = c.raw_blocks;
    if (layout_.k->before_rope != nullptr) {
      const std::uint32_t longest = *std::max_element(c.lengths.begin(), c.lengths.end());
      keys_ = random_keys(*layout_.k->before_rope, c.shape, longest);
      layout_.key_table = &keys_->table;
      layout_.angles = &keys_->angles;
    }
    // Open blocks stand among the others.
    block_bytes_ = std::max(kv_block_bytes(layout_, block), layout_.open_bytes);
    std::vector<std::uint32_t> ids;
    for (const std::uint32_t length : c.lengths) {
      const auto n =
          ((length + c.shape.block_tokens - 1) / c.shape.block_tokens + 1) * c.shape.n_kv_heads;
      for (std::uint32_t i = 0; i < n; ++i) ids.push_back(static_cast<std::uint32_t>(ids.size()));
    }
    pool_ = Buffer<std::byte>(ids.size() * block_bytes_);
    std::memset(pool_.data(), 0xff, pool_.size());
    layout_.pool = pool_.data();
    std::shuffle(ids.begin(), ids.end(), rng);
    std::size_t next = 0;
    const auto take = [&] {
      return BlockId{static_cast<std::uint32_t>(ids[next++] * block_bytes_ / kBlockQuantum)};
    };
    for (const std::uint32_t length : c.lengths) {
      auto& heads = tables_.emplace_back(c.shape.n_kv_heads);
      auto& open = open_.emplace_back();
      for (auto& table : heads) {
        for (std::uint32_t row = 0; row < length; row += c.shape.block_tokens) {
          table.push_back(take());
        }
        open.push_back(take());
      }
      if (tables_.size() > 1) {
        for (std::size_t h = 0; h < heads.size(); ++h) {
          std::copy_n(tables_[0][h].begin(), n_shared / c.shape.block_tokens, heads[h].begin());
        }
      }
      n_past_.push_back(tables_.size() > 1 ? n_shared : 0);
      out_.emplace_back(std::size_t{length} * c.shape.n_heads * c.shape.head_dim);
    }
  }

  const KvLayout& layout() const { return layout_; }
  /// Attention output of each sequence: [length, n_heads, head_dim].
  const std::vector<std::vector<float>>& out() const { return out_; }

  void run(const Schedule& schedule, const Compute& compute, const AttendFn& attend_fn) {
    const std::uint32_t longest = *std::max_element(case_.lengths.begin(), case_.lengths.end());
    AttentionScratch scratch(case_.shape, compute.pool.n_threads(),
                             std::accumulate(case_.lengths.begin(), case_.lengths.end(), 0U),
                             longest, static_cast<std::uint32_t>(case_.lengths.size()),
                             layout_.seals());
    for (const Step& step : schedule) run_step(step, {compute, attend_fn}, scratch);
  }

 private:
  struct Call {
    const Compute& compute;
    const AttendFn& attend;
  };
  // First block that a query at the next row still sees; earlier ones are overwritten.
  std::uint32_t free_blocks(std::uint32_t s) {
    const AttentionShape& shape = case_.shape;
    if (shape.window == 0 || n_past_[s] + 1 <= shape.window) return 0;
    const std::uint32_t first = (n_past_[s] + 1 - shape.window) / shape.block_tokens;
    for (const auto& table : tables_[s]) {
      for (std::uint32_t b = 0; b < first; ++b) {
        std::memset(layout_.pool + to_offset(table[b]), 0xff, block_bytes_);
      }
    }
    return first;
  }

  void run_step(const Step& step, const Call& call, AttentionScratch& scratch) {
    const AttentionShape& shape = case_.shape;
    std::vector<std::vector<KvRows>> heads;
    heads.reserve(step.size());
    std::vector<AttentionItem> items;
    std::vector<float> q, k, v;
    std::uint32_t n_rows = 0, n_fresh = 0;
    const auto gather = [&](std::vector<float>& to, const std::vector<float>& from,
                            std::size_t row_floats, std::uint32_t begin, std::uint32_t n) {
      to.insert(to.end(), from.begin() + static_cast<std::ptrdiff_t>(begin * row_floats),
                from.begin() + static_cast<std::ptrdiff_t>((begin + n) * row_floats));
    };
    for (const auto& [s, n] : step) {
      const std::uint32_t first_block = free_blocks(s);
      auto& rows = heads.emplace_back();
      for (const auto& table : tables_[s]) {
        const std::size_t end =
            layout_.seals() ? (n_past_[s] + n) / shape.block_tokens
                            : (n_past_[s] + n + shape.block_tokens - 1) / shape.block_tokens;
        rows.push_back({std::span(table).subspan(first_block, end - first_block), first_block,
                        open_[s][rows.size()]});
      }
      items.push_back({n_rows, n, n_past_[s], rows, n_fresh});
      n_fresh += n_fresh_blocks(items.back(), shape.block_tokens);
      gather(q, case_.q[s], shape.n_heads * shape.head_dim, n_past_[s], n);
      gather(k, case_.key[s], shape.n_kv_heads * shape.head_dim, n_past_[s], n);
      gather(v, case_.value[s], shape.n_kv_heads * shape.head_dim, n_past_[s], n);
      n_rows += n;
    }
    Buffer<std::byte> fresh(n_fresh * shape.n_kv_heads * layout_.open_bytes);
    if (fresh.size() > 0) std::memset(fresh.data(), 0xff, fresh.size());
    layout_.fresh = fresh.data();
    append_rows(call.compute, shape, layout_, items, k.data(), v.data());
    std::vector<float> out(q.size()), sink_q(q);
    for (float& x : sink_q) x *= shape.scale;
    for (AttentionItem& item : items) {
      if (case_.n_sinks == 0 || item.n_past < case_.n_sinks) continue;
      item.sink_q = sink_q.data() + item.first_row * std::size_t{shape.n_heads} * shape.head_dim;
      item.n_sinks = case_.n_sinks;
    }
    call.attend(call.compute, shape, layout_, items, q.data(), out.data(), scratch);
    for (const AttentionItem& item : items) {
      const std::uint32_t s = step[static_cast<std::size_t>(&item - items.data())].first;
      const std::size_t row_floats = std::size_t{shape.n_heads} * shape.head_dim;
      std::copy_n(out.data() + item.first_row * row_floats, item.n_rows * row_floats,
                  out_[s].data() + n_past_[s] * row_floats);
      n_past_[s] += item.n_rows;
    }
  }

  const AttentionCase& case_;
  std::unique_ptr<const RandomKeys> keys_;  // of formats before rope
  KvLayout layout_;
  std::size_t block_bytes_ = 0;
  Buffer<std::byte> pool_;
  std::vector<std::vector<std::vector<BlockId>>> tables_;  // [sequence][kv head][block]
  std::vector<std::vector<BlockId>> open_;                 // [sequence][kv head]
  std::vector<std::uint32_t> n_past_;
  std::vector<std::vector<float>> out_;
};

}  // namespace larder
