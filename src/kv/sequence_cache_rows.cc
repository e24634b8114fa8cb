// Rows of a sequence's cache that are dropped; the others close ranks.
#include <algorithm>

#include "base/check.h"
#include "kv/sequence_cache.h"

namespace larder {
namespace {

constexpr std::uint32_t kNoRun = UINT32_MAX;

/// Whether a layer that seals can have its runs from these: where it does not repack its rows
/// cannot leave their block, and whether a block is raw is told by its place in the table
/// (CacheShape::raw_blocks).
bool suits_sealed(const CacheShape& shape, const CacheLayer& layer,
                  std::span<const std::uint32_t> from, std::uint32_t n_kept) {
  if (n_kept % shape.block_tokens != 0) return false;
  for (std::uint32_t run = 0; run < from.size(); ++run) {
    if (from[run] == kNoRun && !layer.repacks) return false;
    if (run < shape.raw_blocks && from[run] != run) return false;
  }
  return true;
}

}  // namespace

/// For each run of the new tables the run of the old ones that it is, rows and all; kNoRun where
/// there is none, or not the same for all heads.
std::vector<std::uint32_t> SequenceCache::runs_that_stay(std::size_t layer,
                                                         std::span<const std::uint32_t> kept,
                                                         std::uint32_t n_kept) const {
  const std::uint32_t n = shape_->block_tokens;
  std::vector<std::uint32_t> from(blocks_for(n_kept), kNoRun);
  for (std::uint32_t run = 0; run < from.size(); ++run) {
    const std::uint32_t begin = run * n, end = std::min(begin + n, n_kept);
    const std::uint32_t first = kept[begin];
    bool stays = first % n == 0;
    // Rows of an open block are to be sealed.
    if (first / n >= tables(layer).front().blocks().size()) stays = false;
    for (std::size_t head = 0; head < tables(layer).size() && stays; ++head) {
      const auto rows = kept.subspan(head * n_kept + begin, end - begin);
      stays = rows.front() == first && rows.back() - first + 1 == rows.size();
    }
    if (stays) from[run] = first / n;
  }
  return from;
}

void SequenceCache::keep_rows(std::uint32_t layer, std::span<const std::uint32_t> kept,
                              std::span<std::vector<RowMove>> moves, bool rewrites) {
  const auto heads = tables(layer);
  const std::uint32_t n = shape_->block_tokens;
  const auto n_kept = static_cast<std::uint32_t>(kept.size() / heads.size());
  LARDER_CHECK(shape_->layers[layer].drops());
  LARDER_CHECK(moves.size() == heads.size() && kept.size() == heads.size() * n_kept);
  LARDER_CHECK(n_reserved_ == 0 && n_kept <= n_stored(layer));
  const bool shares = shares_blocks(layer);
  std::vector<std::uint32_t> from = runs_that_stay(layer, kept, n_kept);
  if (rewrites && shares) std::fill(from.begin(), from.end(), kNoRun);
  const CacheLayer& of = shape_->layers[layer];
  LARDER_CHECK(!of.seals() || suits_sealed(*shape_, of, from, n_kept));

  // The t-th run that is put together goes into the t-th of the old runs that do not stay: it comes
  // from that one and later ones, and the runs before it are done with those that it overwrites.
  std::vector<std::uint32_t> others;
  for (std::uint32_t run = 0; run < heads.front().blocks().size(); ++run) {
    if (std::find(from.begin(), from.end(), run) == from.end()) others.push_back(run);
  }
  const auto spares = spare_tables(layer);
  std::vector<BlockId> blocks(from.size());
  for (std::size_t head = 0; head < heads.size(); ++head) {
    const auto old = heads[head].blocks();
    const auto rows = kept.subspan(head * n_kept, n_kept);
    std::vector<bool> taken(old.size(), false);
    std::size_t n_made = 0;
    moves[head].clear();
    for (std::uint32_t run = 0; run < from.size(); ++run) {
      if (from[run] != kNoRun) {
        blocks[run] = old[from[run]];
        taken[from[run]] = true;
        continue;
      }
      if (shares) {
        LARDER_CHECK(n_made < spares[head].blocks().size());
        blocks[run] = spares[head].blocks()[n_made];
        pool_->share(blocks[run]);
      } else {
        blocks[run] = old[others[n_made]];
        taken[others[n_made]] = true;
      }
      ++n_made;
      for (std::uint32_t i = run * n; i < std::min((run + 1) * n, n_kept); ++i) {
        const RowMove move{block_of(layer, head, rows[i]), blocks[run], rows[i] % n, i % n};
        if (move.from != move.to || move.from_row != move.to_row) moves[head].push_back(move);
      }
    }
    for (std::size_t i = old.size(); i-- > 0;) {
      if (!taken[i]) pool_->release(old[i]);
    }
    heads[head].exchange(blocks);
    if (shares) spares[head].clear();
  }
  for (BlockTable& open : open_tables(layer)) open.clear();
  n_dropped_[layer] = n_rows_ - n_kept;
  dropped_at_ = n_rows_;
}

/// Where a stored row stands: behind the full blocks of a layer that seals, in its open one.
BlockId SequenceCache::block_of(std::size_t layer, std::size_t head, std::uint32_t row) const {
  const auto blocks = tables(layer)[head].blocks();
  const std::uint32_t run = row / shape_->block_tokens;
  return run < blocks.size() ? blocks[run] : open_tables(layer)[head].blocks().front();
}

double SequenceCache::mean_held_rows() const {
  std::uint64_t n_held = 0;
  for (std::size_t l = 0; l < shape_->layers.size(); ++l) {
    for (const BlockTable& table : tables(l)) {
      n_held += n_stored_of(l, n_rows_) - table.first_block() * shape_->block_tokens;
    }
  }
  return tables_.empty() ? 0 : static_cast<double>(n_held) / static_cast<double>(tables_.size());
}

void SequenceCache::release_spares() {
  for (BlockTable& spare : spares_) spare.clear();
}

bool SequenceCache::shares_blocks(std::size_t layer) const {
  for (const BlockTable& table : tables(layer)) {
    for (const BlockId id : table.blocks()) {
      if (pool_->ref_count(id) > 1) return true;
    }
  }
  return false;
}

std::span<BlockTable> SequenceCache::spare_tables(std::size_t layer) {
  return std::span(spares_).subspan(first_table_[layer],
                                    first_table_[layer + 1] - first_table_[layer]);
}

}  // namespace larder
