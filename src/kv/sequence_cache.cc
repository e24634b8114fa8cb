#include "kv/sequence_cache.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace larder {
namespace {

std::uint64_t divide_up(std::uint64_t a, std::uint64_t b) { return a / b + (a % b != 0); }

/// Block runs that a windowed layer holds at most while steps bring `step_rows` rows. The first
/// query of a step sees window - 1 older rows; a span of L rows that begins anywhere touches at
/// most (L - 1) / block_tokens blocks, rounded up, and one.
std::uint64_t max_window_runs(std::uint32_t window, std::uint32_t step_rows,
                              std::uint32_t block_tokens) {
  const std::uint64_t span = std::uint64_t{window} - 1 + std::max(step_rows, 1U);
  return divide_up(span - 1, block_tokens) + 1;
}

}  // namespace

void count_for_context(const CacheShape& shape, std::span<const BlockClassSpec> classes,
                       std::uint32_t n_tokens, std::uint32_t step_rows,
                       std::span<std::uint64_t> out) {
  LARDER_CHECK(out.size() == classes.size());
  std::fill(out.begin(), out.end(), 0);
  for (const CacheLayer& layer : shape.layers) {
    const std::uint32_t n_rows = layer.drops() ? std::min(n_tokens, layer.max_stored) : n_tokens;
    std::uint64_t n_runs =
        layer.seals() ? n_rows / shape.block_tokens : divide_up(n_rows, shape.block_tokens);
    // Of layers whose mean is bounded each may begin one block more.
    if (layer.most_stored != 0 && n_rows < n_tokens) ++n_runs;
    if (layer.window > 0) {
      n_runs = std::min(n_runs, max_window_runs(layer.window, step_rows, shape.block_tokens));
    }
    const auto add = [&](BlockClass of, std::uint64_t n) {
      const auto cls = static_cast<std::size_t>(of);
      LARDER_CHECK(cls < classes.size());
      out[cls] += n * divide_up(layer.n_kv_heads, classes[cls].extent_blocks);
    };
    const std::uint64_t n_raw =
        layer.seals() ? std::min<std::uint64_t>(n_runs, shape.raw_blocks) : 0;
    // A window holds fewer of the sealed ones only while it holds raw ones.
    add(layer.sealed_class, layer.window > 0 ? n_runs : n_runs - n_raw);
    if (layer.seals()) add(layer.open_class, 1 + n_raw);
  }
}

SequenceCache::SequenceCache(const CacheShape& shape, BlockPool& pool, std::uint32_t max_tokens)
    : shape_(&shape), pool_(&pool), max_tokens_(max_tokens) {
  first_table_.reserve(shape.layers.size() + 1);
  std::size_t n_tables = 0;
  for (const CacheLayer& layer : shape.layers) {
    first_table_.push_back(n_tables);
    n_tables += layer.n_kv_heads;
  }
  first_table_.push_back(n_tables);
  tables_.reserve(n_tables);
  const auto max_blocks = [&](const CacheLayer& layer) {
    return blocks_for(layer.drops() ? std::min(max_tokens, layer.max_table_rows()) : max_tokens);
  };
  for (const CacheLayer& layer : shape.layers) {
    for (std::uint32_t i = 0; i < layer.n_kv_heads; ++i) {
      tables_.emplace_back(pool, max_blocks(layer));
    }
  }
  seals_ = std::any_of(shape.layers.begin(), shape.layers.end(),
                       [](const CacheLayer& layer) { return layer.seals(); });
  if (seals_) {
    open_.reserve(n_tables);
    for (std::size_t i = 0; i < n_tables; ++i) open_.emplace_back(pool, 1);
  }
  n_dropped_.resize(shape.layers.size());
  if (std::any_of(shape.layers.begin(), shape.layers.end(),
                  [](const CacheLayer& layer) { return layer.drops(); })) {
    spares_.reserve(n_tables);
    for (const CacheLayer& layer : shape.layers) {
      for (std::uint32_t i = 0; i < layer.n_kv_heads; ++i) {
        spares_.emplace_back(pool, max_blocks(layer));
      }
    }
  }
}

void SequenceCache::count_needed(std::uint32_t n,
                                 std::span<std::uint32_t> extents_per_class) const {
  LARDER_CHECK(extents_per_class.size() == pool_->n_classes());
  std::fill(extents_per_class.begin(), extents_per_class.end(), 0U);
  for (std::size_t l = 0; l < shape_->layers.size(); ++l) {
    const Growth g = growth(l, n);
    count_growth(l, g.n_runs - g.n_raw, g, extents_per_class);
  }
}

void SequenceCache::count_in_steps(std::uint32_t n, std::uint32_t step_rows,
                                   std::span<std::uint32_t> extents_per_class) const {
  LARDER_CHECK(extents_per_class.size() == pool_->n_classes());
  std::fill(extents_per_class.begin(), extents_per_class.end(), 0U);
  for (std::size_t l = 0; l < shape_->layers.size(); ++l) {
    const CacheLayer& layer = shape_->layers[l];
    const Growth g = growth(l, n);
    std::uint64_t n_sealed = g.n_runs - g.n_raw;
    if (layer.window > 0) {
      n_sealed = std::min(n_sealed, max_window_runs(layer.window, step_rows, shape_->block_tokens));
    }
    if (layer.drops() && layer.n_kv_heads > 0) {
      const std::uint64_t n_own = tables(l).front().blocks().size();
      const std::uint64_t n_most = divide_up(layer.max_table_rows(), shape_->block_tokens);
      n_sealed = std::min(n_sealed, n_most - std::min(n_own + g.n_raw, n_most));
    }
    count_growth(l, n_sealed, g, extents_per_class);
  }
}

void SequenceCache::count_growth(std::size_t layer, std::uint64_t n_sealed, const Growth& growth,
                                 std::span<std::uint32_t> extents_per_class) const {
  const CacheLayer& of = shape_->layers[layer];
  extents_per_class[static_cast<std::size_t>(of.sealed_class)] +=
      (static_cast<std::uint32_t>(n_sealed) + growth.n_spares) *
      extents_per_run(of, of.sealed_class);
  const std::uint32_t n_open = growth.n_raw + (growth.copy_last || growth.open ? 1U : 0U);
  extents_per_class[static_cast<std::size_t>(of.open_class)] +=
      n_open * extents_per_run(of, of.open_class);
}

bool SequenceCache::reserve(std::uint32_t n, std::vector<BlockCopy>& copies, std::uint32_t n_kept) {
  LARDER_CHECK(n <= max_tokens_ - n_rows_);
  std::array<std::uint32_t, kMaxBlockClasses> counts;
  const auto needed = std::span(counts).first(pool_->n_classes());
  std::fill(needed.begin(), needed.end(), 0U);
  for (std::size_t l = 0; l < shape_->layers.size(); ++l) {
    const Growth g = growth(l, n, n_kept);
    count_growth(l, g.n_runs - g.n_raw, g, needed);
  }
  if (!pool_->can_acquire(needed)) return false;
  for (std::size_t l = 0; l < shape_->layers.size(); ++l) {
    const Growth g = growth(l, n, n_kept);
    for (std::uint32_t i = 0; i < g.n_spares; ++i) add_spare(l);
    if (g.copy_last) copy_last_run(l, copies);
    if (g.open) add_open(l);
    for (std::uint32_t i = 0; i < g.n_runs; ++i) add_run(l);
  }
  n_reserved_ = std::max(n_reserved_, n);
  return true;
}

void SequenceCache::commit(std::uint32_t n) {
  LARDER_CHECK(n <= n_reserved_);
  end_at(n_rows_ + n);
  leave_windows();
}

void SequenceCache::leave_windows() {
  for (std::size_t l = 0; l < shape_->layers.size(); ++l) {
    const std::uint32_t visible = first_visible_block(*shape_, n_rows_, shape_->layers[l].window);
    for (BlockTable& table : tables(l)) {
      if (visible > table.first_block()) table.drop_front(visible - table.first_block());
    }
  }
}

void SequenceCache::truncate(std::uint32_t n_rows) {
  LARDER_CHECK(can_truncate(n_rows));
  end_at(n_rows);
}

/// Gives back the blocks behind `n_rows`, and the open ones where no block is begun.
void SequenceCache::end_at(std::uint32_t n_rows) {
  for (std::size_t l = 0; l < shape_->layers.size(); ++l) {
    for (BlockTable& table : tables(l)) table.truncate(blocks_for(l, n_rows));
    if (n_stored_of(l, n_rows) % shape_->block_tokens != 0) continue;
    for (BlockTable& open : open_tables(l)) open.clear();
  }
  n_rows_ = n_rows;
  n_reserved_ = 0;
}

void SequenceCache::clear() {
  for (BlockTable& table : tables_) table.clear();
  for (BlockTable& open : open_) open.clear();
  release_spares();
  std::fill(n_dropped_.begin(), n_dropped_.end(), 0U);
  dropped_at_ = 0;
  n_rows_ = 0;
  n_reserved_ = 0;
}

bool SequenceCache::can_truncate(std::uint32_t n_rows) const {
  if (n_rows > n_rows_ || n_rows < dropped_at_ || resumable_rows(n_rows) != n_rows) return false;
  for (std::size_t l = 0; l < shape_->layers.size(); ++l) {
    const std::uint32_t visible = first_visible_block(*shape_, n_rows, shape_->layers[l].window);
    for (const BlockTable& table : tables(l)) {
      if (visible < table.first_block()) return false;
    }
  }
  return true;
}

// Layers that dropped other numbers of rows end their blocks at other places of the text.
std::uint32_t SequenceCache::resumable_rows(std::uint32_t n_rows) const {
  const std::uint32_t n_tokens = shape_->block_tokens;
  const auto resumes = [&](std::size_t layer, std::uint32_t n) {
    if (!shape_->layers[layer].seals() || n < n_dropped_[layer]) return true;
    const std::uint32_t n_stored = n_stored_of(layer, n);
    return n_stored % n_tokens == 0 ||
           n_stored / n_tokens == n_stored_of(layer, n_rows_) / n_tokens;
  };
  for (std::uint32_t n = n_rows; seals_ && n > 0; --n) {
    bool all = true;
    for (std::size_t l = 0; l < shape_->layers.size() && all; ++l) all = resumes(l, n);
    if (all) return n;
  }
  return seals_ ? 0 : n_rows;
}

SequenceCache SequenceCache::fork_as(std::uint32_t n_rows, const CacheShape& shape,
                                     std::uint32_t max_tokens) const {
  LARDER_CHECK(can_truncate(n_rows) && n_rows <= max_tokens);
  LARDER_CHECK(&shape == shape_ || !has_dropped());
  LARDER_CHECK(n_reserved_ == 0 ||
               (!has_dropped() && n_rows <= n_rows_ / shape_->block_tokens * shape_->block_tokens));
  SequenceCache other(shape, *pool_, max_tokens);
  LARDER_CHECK(other.tables_.size() == tables_.size());
  if (has_dropped()) other.n_dropped_ = n_dropped_;
  other.dropped_at_ = dropped_at_;
  for (std::size_t l = 0; l < shape.layers.size(); ++l) {
    for (std::size_t i = other.first_table_[l]; i < other.first_table_[l + 1]; ++i) {
      other.tables_[i] =
          tables_[i].fork(other.blocks_for(l, n_rows), other.tables_[i].max_blocks());
      if (open_.empty() || other.n_stored_of(l, n_rows) % shape.block_tokens == 0) continue;
      other.open_[i] = open_[i].fork(open_[i].end_block());
    }
  }
  other.n_rows_ = n_rows;
  return other;
}

const BlockTable& SequenceCache::table(std::uint32_t layer, std::uint32_t kv_head) const {
  LARDER_DCHECK(layer < shape_->layers.size() && kv_head < shape_->layers[layer].n_kv_heads);
  return tables_[first_table_[layer] + kv_head];
}

bool SequenceCache::has_open_block(std::uint32_t layer) const {
  const auto open = open_tables(layer);
  return !open.empty() && !open.front().blocks().empty();
}

BlockId SequenceCache::open_block(std::uint32_t layer, std::uint32_t kv_head) const {
  LARDER_DCHECK(has_open_block(layer));
  return open_[first_table_[layer] + kv_head].blocks().front();
}

std::size_t SequenceCache::bytes() const {
  std::size_t total = 0;
  for (std::size_t l = 0; l < shape_->layers.size(); ++l) {
    const CacheLayer& layer = shape_->layers[l];
    for (const BlockTable& table : tables(l)) {
      for (std::uint32_t run = table.first_block(); run < table.end_block(); ++run) {
        total += pool_->block_bytes(is_raw(layer, run) ? layer.open_class : layer.sealed_class);
      }
    }
    for (const BlockTable& open : open_tables(l)) {
      total += open.blocks().size() * pool_->block_bytes(layer.open_class);
    }
  }
  return total;
}

std::span<BlockTable> SequenceCache::tables(std::size_t layer) {
  return std::span(tables_).subspan(first_table_[layer],
                                    first_table_[layer + 1] - first_table_[layer]);
}

std::span<const BlockTable> SequenceCache::tables(std::size_t layer) const {
  return std::span(tables_).subspan(first_table_[layer],
                                    first_table_[layer + 1] - first_table_[layer]);
}

std::span<BlockTable> SequenceCache::open_tables(std::size_t layer) {
  if (!shape_->layers[layer].seals()) return {};
  return std::span(open_).subspan(first_table_[layer],
                                  first_table_[layer + 1] - first_table_[layer]);
}

std::span<const BlockTable> SequenceCache::open_tables(std::size_t layer) const {
  if (!shape_->layers[layer].seals()) return {};
  return std::span(open_).subspan(first_table_[layer],
                                  first_table_[layer + 1] - first_table_[layer]);
}

SequenceCache::Growth SequenceCache::growth(std::size_t layer, std::uint32_t n,
                                            std::uint32_t n_kept) const {
  Growth g;
  if (n == 0) return g;
  const auto heads = tables(layer);
  if (heads.empty()) return g;
  const CacheLayer& of = shape_->layers[layer];
  if (n_kept != 0 && of.drops() && (!of.seals() || of.repacks) && shares_blocks(layer)) {
    g.n_spares = blocks_for(std::min(n_kept, n_rows_ - n_dropped_[layer] + n));
  }
  const std::uint32_t end = heads.front().end_block();
  const std::uint32_t wanted = blocks_for(layer, n_rows_ + n);
  g.n_runs = wanted > end ? wanted - end : 0;
  if (of.seals() && end < shape_->raw_blocks) {
    g.n_raw = std::min(g.n_runs, shape_->raw_blocks - end);
  }
  const auto is_shared = [this](const BlockTable& table) {
    return pool_->ref_count(table.blocks().back()) > 1;
  };
  if (of.seals()) {
    const auto open = open_tables(layer);
    g.open = open.front().blocks().empty();
    g.copy_last = !g.open && std::any_of(open.begin(), open.end(), is_shared);
    return g;
  }
  // Only the last block can be shared and partly filled: blocks reserved beyond it are new.
  const std::uint32_t n_stored = n_rows_ - n_dropped_[layer];
  g.copy_last = n_stored % shape_->block_tokens != 0 && end == blocks_for(n_stored) &&
                std::any_of(heads.begin(), heads.end(), is_shared);
  return g;
}

std::uint32_t SequenceCache::extents_per_run(const CacheLayer& layer, BlockClass cls) const {
  return static_cast<std::uint32_t>(divide_up(layer.n_kv_heads, pool_->extent_blocks(cls)));
}

std::uint32_t SequenceCache::blocks_for(std::uint32_t n_rows) const {
  return static_cast<std::uint32_t>(divide_up(n_rows, shape_->block_tokens));
}

// Blocks of the table of a head when the sequence has so many rows.
std::uint32_t SequenceCache::blocks_for(std::size_t layer, std::uint32_t n_rows) const {
  const std::uint32_t n_stored = n_rows - n_dropped_[layer];
  return shape_->layers[layer].seals() ? n_stored / shape_->block_tokens : blocks_for(n_stored);
}

// The next query stands at position n_rows and sees `window` rows, its own included.
std::uint32_t SequenceCache::first_visible_block(const CacheShape& shape, std::uint32_t n_rows,
                                                 std::uint32_t window) {
  if (window == 0 || n_rows + std::uint64_t{1} <= window) return 0;
  return (n_rows - (window - 1)) / shape.block_tokens;
}

// REQUIRES: the pool has the extents (reserve asked before).
template <class F>
void SequenceCache::acquire_run(std::span<BlockTable> heads, BlockClass cls, F&& take) {
  std::array<BlockId, kMaxExtentBlocks> ids;
  while (!heads.empty()) {
    const std::size_t n = std::min<std::size_t>(heads.size(), pool_->extent_blocks(cls));
    LARDER_CHECK(pool_->acquire_extent(cls, std::span(ids).first(n)));
    for (std::size_t i = 0; i < n; ++i) take(heads[i], ids[i]);
    heads = heads.subspan(n);
  }
}

void SequenceCache::copy_last_run(std::size_t layer, std::vector<BlockCopy>& copies) {
  const CacheLayer& of = shape_->layers[layer];
  acquire_run(of.seals() ? open_tables(layer) : tables(layer), of.open_class,
              [&copies](BlockTable& table, BlockId id) {
                copies.push_back({table.replace_last(id), id});
              });
}

void SequenceCache::add_open(std::size_t layer) {
  acquire_run(open_tables(layer), shape_->layers[layer].open_class,
              [](BlockTable& table, BlockId id) { table.push(id); });
}

void SequenceCache::add_spare(std::size_t layer) {
  acquire_run(spare_tables(layer), shape_->layers[layer].sealed_class,
              [](BlockTable& table, BlockId id) { table.push(id); });
}

void SequenceCache::add_run(std::size_t layer) {
  const CacheLayer& of = shape_->layers[layer];
  const auto heads = tables(layer);
  const bool raw = !heads.empty() && is_raw(of, heads.front().end_block());
  acquire_run(heads, raw ? of.open_class : of.sealed_class,
              [](BlockTable& table, BlockId id) { table.push(id); });
}

}  // namespace larder
