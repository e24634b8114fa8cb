#include "kernels/attention_run.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "kernels/sealed_run.h"

namespace larder {
namespace {

RowRange rows_of_run(std::uint32_t run) { return {run * kRunTokens, (run + 1) * kRunTokens}; }

const KvRows& cached(const AttentionContext& context, const QueryTile& tile, std::size_t row) {
  return context.items[tile.rows[row].item].heads[tile.kv_head];
}

std::uint32_t position(const AttentionContext& context, const QueryTile& tile, std::size_t row) {
  return n_past_of(context.items[tile.rows[row].item], tile.kv_head) + tile.rows[row].row;
}

RowRange seen_of_run(const AttentionContext& context, const QueryTile& tile, std::size_t row,
                     std::uint32_t run) {
  return visible_rows_of_run(context.shape, position(context, tile, row), run);
}

// Blocks of the table that the row of the tile reads of run `run`: where the layer seals, those
// before its own.
RowRange blocks_of_row(const AttentionContext& context, const QueryTile& tile, std::size_t row,
                       std::uint32_t run) {
  const RowRange rows = seen_of_run(context, tile, row, run);
  const std::uint32_t n = context.shape.block_tokens;
  const RowRange blocks{rows.begin / n, (rows.end + n - 1) / n};
  if (!context.layout.seals()) return blocks;
  return {blocks.begin, std::min(blocks.end, position(context, tile, row) / n)};
}

std::span<const BlockId> ids(const KvRows& cached, RowRange blocks) {
  LARDER_DCHECK(blocks.begin >= cached.first_block);
  LARDER_DCHECK(blocks.end - cached.first_block <= cached.blocks.size());
  return cached.blocks.subspan(blocks.begin - cached.first_block, blocks.end - blocks.begin);
}

// Queries [begin, end) of a tile that read the same blocks of a run.
struct Together {
  std::size_t begin, end;
  RowRange blocks;       // that any of them sees
  const KvRows* cached;  // of one of them, good for all
};

// The addresses of the parts of a run in the order in which they are read: K of all blocks of the
// table, V of all of them, and perhaps some K of what comes next.
class Parts {
 public:
  Parts(const AttentionContext& context, const QueryTile& tile, const Together& queries) {
    const auto blocks = ids(*queries.cached, queries.blocks);
    n_ = blocks.size();
    for (std::size_t b = 0; b < n_; ++b) {
      parts_[b] = context.layout.pool + to_offset(blocks[b]);
      const auto block = static_cast<std::uint32_t>(queries.blocks.begin + b);
      const KvLayout& layout = context.layout;
      const bool is_open = layout.seals() && layout.is_raw(block);
      parts_[n_ + b] = parts_[b] + (is_open ? layout.open_v_offset : layout.v_offset);
    }
    const auto after = blocks_behind(context, tile, queries);
    n_next_ = std::min<std::size_t>(after.size(), kMaxNext);
    for (std::size_t b = 0; b < n_next_; ++b) {
      parts_[2 * n_ + b] = context.layout.pool + to_offset(after[b]);
    }
  }
  // The first `n` blocks.
  simd::KvRun k(std::size_t n) const { return {parts_.data(), n, n < n_ ? 0 : n_ + n_next_}; }
  simd::KvRun v(std::size_t n) const { return {parts_.data() + n_, n, n < n_ ? 0 : n_next_}; }
  // All blocks from `first` on.
  simd::KvRun k_from(std::size_t first) const {
    return {parts_.data() + first, n_ - first, n_ + n_next_};
  }
  simd::KvRun v_from(std::size_t first) const {
    return {parts_.data() + n_ + first, n_ - first, n_next_};
  }

 private:
  static std::span<const BlockId> blocks_behind(const AttentionContext& context,
                                                const QueryTile& tile, const Together& queries) {
    const AttentionItem& item = context.items[tile.rows[queries.begin / tile.group].item];
    const KvRows& next = item.heads[tile.next_head];
    const std::uint32_t first = tile.next_is_next_run ? queries.blocks.end : queries.blocks.begin;
    if (first < next.first_block || first - next.first_block >= next.blocks.size()) return {};
    return next.blocks.subspan(first - next.first_block);
  }

  static constexpr std::size_t kMaxNext = 8;
  std::array<const std::byte*, 2 * kMaxRunBlocks + kMaxNext> parts_;
  std::size_t n_, n_next_;
};

// Scores become weights; those of rows of the blocks that the query does not see become zero.
void weigh(const AttentionContext& context, RowRange seen, RowRange scored, simd::Upcoming next,
           float* scores, float& max, float& sum) {
  const std::size_t n = seen.end - seen.begin;
  float* weights = scores + (seen.begin - scored.begin);
  if (context.shape.soft_cap != 0) context.simd.tanh_cap(weights, context.shape.soft_cap, n);
  max = context.simd.max(weights, n);
  sum = context.simd.exp_shift_sum(weights, max, n, next);
  std::fill(scores, weights, 0.0F);
  std::fill(weights + n, scores + (scored.end - scored.begin), 0.0F);
}

// What keeps the memory busy while the scores of query `i` become weights, about as many bytes as
// come in that time: V behind what was fetched together with the last K.
simd::Upcoming next_values(const AttentionContext& context, const simd::KvRun& v,
                           simd::BlockShape block, std::size_t i) {
  constexpr std::size_t kFetched = 8192, kBytes = 2048;
  const std::size_t part_bytes = context.layout.v->v_bytes(block);
  const std::size_t part = (kFetched + i * kBytes) / part_bytes;
  const std::size_t offset = (kFetched + i * kBytes) % part_bytes;
  if (part >= v.n_blocks) return {};
  return {v.parts[part] + offset, std::min(kBytes, part_bytes - offset)};
}

// One tile of queries against a run: what the steps of `attend_together` share.
class TogetherRun {
 public:
  TogetherRun(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
              const Together& queries, const RunSpace& space)
      : context_(context),
        tile_(tile),
        run_(run),
        queries_(queries),
        block_{context.shape.block_tokens, context.shape.head_dim},
        scores_(space.scores),
        parts_(context, tile, queries),
        n_raw_(n_raw_blocks(context.layout, queries.blocks)),
        sealed_(context, parts_.k_from(n_raw_), parts_.v_from(n_raw_),
                {tile.kv_head, queries.blocks.begin + static_cast<std::uint32_t>(n_raw_)},
                queries.end - queries.begin, space.decoded) {}

  // Queries [begin, begin + n), kMaxHalfQueries at most.
  void attend(std::size_t begin, std::size_t n, const StateTile& states);

 private:
  // Queries of rows that have the block in which they stand in common.
  struct OwnBlock {
    std::size_t begin, end;  // queries
    const std::byte* part;   // its K part
    std::uint32_t first;     // its first row
    std::uint32_t n_rows;    // that any of them sees
  };
  // How many of the first blocks are as open ones, though they are full and the layer seals.
  static std::size_t n_raw_blocks(const KvLayout& layout, RowRange blocks) {
    if (!layout.seals() || layout.raw_blocks <= blocks.begin) return 0;
    return std::min(layout.raw_blocks, blocks.end) - blocks.begin;
  }
  std::uint32_t own_block(std::size_t query) const {
    return position(context_, tile_, query / tile_.group) / block_.block_tokens;
  }
  const std::byte* own_part(std::size_t query) const {
    const AttentionItem& item = context_.items[tile_.rows[query / tile_.group].item];
    return open_block(
        context_.layout, item,
        {tile_.kv_head, context_.shape.n_kv_heads, own_block(query), block_.block_tokens});
  }
  template <class F>
  void for_each_own_block(std::size_t begin, std::size_t end, F&& f) const;
  void score(std::size_t begin, std::size_t n, simd::ScoreTile rows);
  void score_blocks(const float* q, std::size_t n_blocks, simd::ScoreTile rows);
  void score_sinks(std::size_t query, float* scores);
  void accumulate(std::size_t begin, std::size_t n, simd::ScoreTile rows, float* out);

  const AttentionContext& context_;
  const QueryTile& tile_;
  const std::uint32_t run_;
  const Together& queries_;
  const simd::BlockShape block_;
  float* const scores_;
  const Parts parts_;
  const std::size_t n_raw_;  // of the blocks of the table, the first ones
  SealedRun sealed_;
  RowRange scored_{};         // of the queries at hand
  std::size_t n_blocks_ = 0;  // of the table, that they read
};

// Where the layer seals: the blocks of the run in which the queries stand, if they do.
template <class F>
void TogetherRun::for_each_own_block(std::size_t begin, std::size_t end, F&& f) const {
  if (!context_.layout.seals()) return;
  for (std::size_t i = begin; i < end;) {
    const std::uint32_t first = own_block(i) * block_.block_tokens;
    if (first / kRunTokens != run_) {
      i += tile_.group - i % tile_.group;
      continue;
    }
    OwnBlock own{i, i, own_part(i), first, 0};
    for (; own.end < end && own_part(own.end) == own.part;
         own.end += tile_.group - own.end % tile_.group) {
      const std::uint32_t end_row = position(context_, tile_, own.end / tile_.group) + 1;
      own.n_rows = std::max(own.n_rows, end_row - first);  // items of one block come in any order
    }
    own.end = std::min(own.end, end);
    f(own);
    i = own.end;
  }
}

// The first `n_blocks` of the table.
void TogetherRun::score_blocks(const float* q, std::size_t n_blocks, simd::ScoreTile rows) {
  const std::size_t n_raw = std::min(n_raw_, n_blocks);
  if (n_raw > 0) context_.scores(q, parts_.k(n_raw), block_, rows);
  if (n_blocks > n_raw) {
    float* to = rows.data + n_raw * block_.block_tokens;
    sealed_.scores(q, n_blocks - n_raw, {to, rows.n_q, rows.stride});
  }
}

void TogetherRun::score(std::size_t begin, std::size_t n, simd::ScoreTile rows) {
  score_blocks(tile_.q + begin * block_.head_dim, n_blocks_, rows);
  for_each_own_block(begin, begin + n, [&](const OwnBlock& own) {
    float* to = rows.data + (own.begin - begin) * rows.stride + (own.first - scored_.begin);
    context_.scores(tile_.q + own.begin * block_.head_dim, {&own.part, 1, 0}, block_,
                    {to, own.end - own.begin, rows.stride});
  });
  if (scored_.begin != 0) return;
  for (std::size_t i = 0; i < n; ++i) score_sinks(begin + i, rows.data + i * rows.stride);
}

// The first rows of a sequence whose queries meet them otherwise than the rest.
void TogetherRun::score_sinks(std::size_t query, float* scores) {
  const std::size_t row = query / tile_.group;
  const AttentionItem& item = context_.items[tile_.rows[row].item];
  if (item.sink_q == nullptr) return;
  const std::uint32_t n = std::min(item.n_sinks, seen_of_run(context_, tile_, row, run_).end);
  const std::size_t head = tile_.kv_head * tile_.group + query % tile_.group;
  const std::size_t n_q = item.each_sink_apart ? item.n_sinks : 1;
  const std::size_t n_heads = context_.shape.n_heads;
  const float* q = item.sink_q + (tile_.rows[row].row * n_q * n_heads + head) * block_.head_dim;
  std::array<float, kMaxSinkRows> of_sinks;
  if (item.each_sink_apart) {
    for (std::uint32_t i = 0; i < n; ++i, q += n_heads * block_.head_dim) {
      score_blocks(q, i / block_.block_tokens + 1, {of_sinks.data(), 1, kMaxSinkRows});
      scores[i] = of_sinks[i];
    }
    return;
  }
  const std::size_t n_blocks = (n + block_.block_tokens - 1) / block_.block_tokens;
  score_blocks(q, n_blocks, {of_sinks.data(), 1, kMaxSinkRows});
  std::copy_n(of_sinks.data(), n, scores);
}

void TogetherRun::accumulate(std::size_t begin, std::size_t n, simd::ScoreTile rows, float* out) {
  std::fill_n(out, n * block_.head_dim, 0.0F);
  if (!context_.layout.seals()) {
    context_.accumulate(rows, parts_.v(n_blocks_), block_, scored_.end - scored_.begin, out);
    return;
  }
  for_each_own_block(begin, begin + n, [&](const OwnBlock& own) {
    float* weights = rows.data + (own.begin - begin) * rows.stride + (own.first - scored_.begin);
    const std::byte* v = own.part + context_.layout.open_v_offset;
    context_.accumulate({weights, own.end - own.begin, rows.stride}, {&v, 1, 0}, block_, own.n_rows,
                        out + (own.begin - begin) * block_.head_dim);
    for (std::size_t i = 0; i < own.end - own.begin; ++i) {
      std::fill_n(weights + i * rows.stride, own.n_rows, 0.0F);  // not those of the sealed block
    }
  });
  const std::size_t n_raw = std::min(n_raw_, n_blocks_);
  if (n_raw > 0) {
    const auto n_tokens = static_cast<std::uint32_t>(n_raw * block_.block_tokens);
    context_.accumulate(rows, parts_.v(n_raw), block_, n_tokens, out);
  }
  if (n_blocks_ > n_raw) {
    float* weights = rows.data + n_raw * block_.block_tokens;
    sealed_.accumulate({weights, rows.n_q, rows.stride}, n_blocks_ - n_raw, out);
  }
}

void TogetherRun::attend(std::size_t begin, std::size_t n, const StateTile& states) {
  // Rows after the last that is seen may be unwritten, and even a weight of zero would let their
  // NaN through; all before it are written, so that zero weights change nothing.
  scored_ = {queries_.blocks.begin * block_.block_tokens, 0};
  std::uint32_t end_block = queries_.blocks.begin;
  for (std::size_t i = begin; i < begin + n; i += tile_.group - i % tile_.group) {
    const std::size_t row = i / tile_.group;
    scored_.end = std::max(scored_.end, seen_of_run(context_, tile_, row, run_).end);
    end_block = std::max(end_block, blocks_of_row(context_, tile_, row, run_).end);
  }
  n_blocks_ = end_block - queries_.blocks.begin;
  const simd::ScoreTile rows{scores_, n, kRunTokens};
  const simd::KvRun v = parts_.v(n_blocks_);
  score(begin, n, rows);
  if (begin == queries_.begin && n_blocks_ > n_raw_) sealed_.fetch_scales(n_blocks_ - n_raw_);
  for (std::size_t i = begin; i < begin + n; ++i) {
    const bool is_first = begin == queries_.begin;
    weigh(context_, seen_of_run(context_, tile_, i / tile_.group, run_), scored_,
          is_first ? next_values(context_, v, block_, i - begin) : simd::Upcoming{},
          scores_ + (i - begin) * kRunTokens, states.max[i], states.sum[i]);
  }
  accumulate(begin, n, rows, states.out + begin * block_.head_dim);
}

// The rows of the tile from `row` on, which sees the run, that read the same blocks as that one.
Together rows_together(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
                       std::size_t row) {
  const KvRows& first = cached(context, tile, row);
  Together together{row, row + 1, blocks_of_row(context, tile, row, run), &first};
  bool one_sequence = true;
  for (std::size_t r = row + 1; r < tile.rows.size(); ++r) {
    if (seen_of_run(context, tile, r, run).empty()) break;
    const RowRange blocks = blocks_of_row(context, tile, r, run);
    const KvRows& other = cached(context, tile, r);
    if (&other == &first && one_sequence) {
      together.blocks.end = std::max(together.blocks.end, blocks.end);
    } else {
      if (blocks != together.blocks) break;
      if (!std::ranges::equal(ids(first, blocks), ids(other, blocks))) break;
      one_sequence = false;
    }
    together.end = r + 1;
  }
  together.begin *= tile.group;
  together.end *= tile.group;
  return together;
}

}  // namespace

StateTile state_tile(float* memory, std::size_t n_queries) {
  return {.max = memory, .sum = memory + n_queries, .out = memory + 2 * n_queries};
}

RowRange visible_rows(const AttentionShape& shape, std::uint32_t position) {
  const std::uint32_t end = position + 1;
  return {shape.window == 0 || end <= shape.window ? 0 : end - shape.window, end};
}

RowRange visible_rows_of_run(const AttentionShape& shape, std::uint32_t position,
                             std::uint32_t run) {
  const RowRange seen = visible_rows(shape, position), rows = rows_of_run(run);
  return {std::max(seen.begin, rows.begin), std::min(seen.end, rows.end)};
}

void attend_run(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
                const RunSpace& space, const StateTile& states) {
  for (std::size_t row = 0; row < tile.rows.size();) {
    if (seen_of_run(context, tile, row, run).empty()) {
      ++row;
      continue;
    }
    const Together queries = rows_together(context, tile, run, row);
    TogetherRun together(context, tile, run, queries, space);
    const std::size_t n = context.run_queries;
    for (std::size_t begin = queries.begin; begin < queries.end; begin += n) {
      together.attend(begin, std::min(n, queries.end - begin), states);
    }
    row = queries.end / tile.group;
  }
}

void merge_run(const AttentionContext& context, const QueryTile& tile, std::uint32_t run,
               const StateTile& from, const StateTile& into) {
  const std::size_t head_dim = context.shape.head_dim;
  for (std::size_t row = 0; row < tile.rows.size(); ++row) {
    if (seen_of_run(context, tile, row, run).empty()) continue;
    for (std::size_t i = row * tile.group; i < (row + 1) * tile.group; ++i) {
      AttentionState state{into.max[i], into.sum[i], into.out + i * head_dim};
      merge_state(state, {from.max[i], from.sum[i], from.out + i * head_dim}, head_dim);
      into.max[i] = state.max;
      into.sum[i] = state.sum;
    }
  }
}

}  // namespace larder
