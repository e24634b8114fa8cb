// The KV cache of one sequence: a block table per (layer, KV head), grown, forked and trimmed
// together.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/row_move.h"
#include "kv/block_pool.h"
#include "kv/block_table.h"

namespace larder {

struct CacheLayer {  // facts of one layer that decide about its blocks
  std::uint32_t n_kv_heads;
  std::uint32_t window;   // a query sees this many newest rows, its own included; 0: all
  BlockClass open_class;  // class of the block that is being filled
  BlockClass sealed_class = open_class;  // of full ones; the same for raw formats
  /// Rows that its blocks hold at most, where rows are dropped (`keep_rows`); 0: none are.
  std::uint32_t max_stored = 0;
  /// The same where `max_stored` holds for the mean of several layers only; 0: that.
  std::uint32_t most_stored = 0;
  /// Where it seals: rows are put together anew from sealed blocks, in whole blocks; else runs of
  /// them stay as they are.
  bool repacks = false;
  /// Full blocks are others than the one that was filled: each of its KV heads has one open block
  /// beside the table of full ones.
  bool seals() const noexcept { return open_class != sealed_class; }
  bool drops() const noexcept { return max_stored != 0; }
  std::uint32_t max_table_rows() const noexcept { return std::max(max_stored, most_stored); }
};

struct CacheShape {
  std::uint32_t block_tokens;  // power of two, 16..128
  std::vector<CacheLayer> layers;
  std::uint32_t raw_blocks = 0;  // first ones of a sequence that have the open class even when full
  /// KV heads that keep different numbers of rows are layers of one head each here, those of a
  /// layer of the model side by side.
  bool heads_apart = false;
};

struct BlockCopy {  // the caller copies the bytes (store/block_store.h) before the step runs
  BlockId from, to;
};

/// Extents of each class (index = BlockClass) that one sequence of up to `n_tokens` tokens holds at
/// most, when no step brings it more than `step_rows` of them. Beside budget_for, the whole
/// arithmetic of a memory budget. `classes` as in the pool, `out` [classes.size()], overwritten.
void count_for_context(const CacheShape& shape, std::span<const BlockClassSpec> classes,
                       std::uint32_t n_tokens, std::uint32_t step_rows,
                       std::span<std::uint64_t> out);

/// Not thread-safe; moves, does not copy. See invariants 1 and 2 of docs/architecture.md.
/// The blocks of all KV heads of a layer are acquired as extents and stay in step. A block is
/// written only while this sequence is the only one that refers to it: `reserve` sees to that.
/// Where a layer seals, the kernels make the full blocks from the open one, whose rows then exist
/// no more: such a cache can be cut inside its open block or between blocks only.
/// Where a layer drops rows, those that stay close ranks: what its blocks hold is no longer the
/// rows from the first on, and their place there no longer their position. Such a cache cannot be
/// cut before the place where rows were dropped last, and gives no stripes.
class SequenceCache {
 public:
  /// `shape` and `pool` must outlive it. `max_tokens` bounds the tables (reserved here, not on the
  /// step path).
  SequenceCache(const CacheShape& shape, BlockPool& pool, std::uint32_t max_tokens);

  std::uint32_t n_rows() const noexcept { return n_rows_; }  // rows appended so far (true length)
  /// Of those, what the blocks of a layer hold.
  std::uint32_t n_stored(std::uint32_t layer) const { return n_rows_ - n_dropped_[layer]; }
  bool has_dropped() const noexcept { return dropped_at_ != 0; }
  /// Extents needed, per class (index = BlockClass), so that `n` more rows fit: what an admission
  /// asks. Overwrites `extents_per_class`, one entry per class of the pool.
  void count_needed(std::uint32_t n, std::span<std::uint32_t> extents_per_class) const;
  /// The same when the `n` rows come in steps of at most `step_rows`, so that windows give blocks
  /// back on the way.
  void count_in_steps(std::uint32_t n, std::uint32_t step_rows,
                      std::span<std::uint32_t> extents_per_class) const;
  /// Makes room for `n` more rows: first copies a shared, partly filled last block (appended to
  /// `copies`), then acquires whole extents. False (and nothing changed) when the pool cannot give
  /// them. Allocates only when `copies` is out of capacity (one entry per KV head of each layer).
  /// With `n_kept`, rows will be dropped behind those `n`, and so many of a layer stay at most:
  /// raw layers with shared blocks, which are never written, get as many spare ones.
  /// REQUIRES: n_rows() + n <= max_tokens
  bool reserve(std::uint32_t n, std::vector<BlockCopy>& copies, std::uint32_t n_kept = 0);
  /// Rows were written: n_rows grows, the rest of the reservation ends, and blocks that no later
  /// query can see (sliding window) are released. REQUIRES: n rows are reserved
  void commit(std::uint32_t n);
  /// Only these rows of a layer stay, and close ranks. `kept` [n_kv_heads, n_kept]: per head the
  /// places among its stored rows, ascending. Runs of blocks that stay as they are, for all heads,
  /// change their place only; blocks without a row go back to the pool, their bytes untouched until
  /// it hands them out again. What is left to copy now comes in `moves` [n_kv_heads], head by head
  /// and in order, so that no move reads what an earlier one has overwritten.
  /// With `rewrites` no run stays as it is where blocks are shared: the caller will write to the
  /// rows, which then stand in blocks of this sequence alone.
  /// Of a layer that seals, rows behind the full blocks come from the open one, which goes back.
  /// REQUIRES: the layer drops, and if it seals, n_kept is a number of whole blocks, raw first runs
  /// stay where they are, and unless it repacks all others stay as they are; nothing is reserved,
  /// n_kept <= n_stored(layer), and there are spare blocks where its own are shared.
  void keep_rows(std::uint32_t layer, std::span<const std::uint32_t> kept,
                 std::span<std::vector<RowMove>> moves, bool rewrites = false);
  void release_spares();  // that no layer needed
  /// Forgets rows at the end and any reservation. REQUIRES: can_truncate(n_rows)
  void truncate(std::uint32_t n_rows);
  /// Forgets everything: all blocks go back, also when a window has moved on.
  void clear();
  /// True when n_rows <= n_rows() and a continuation from there sees every row that it would need
  /// (no window block was freed, no row of a sealed block is wanted raw).
  bool can_truncate(std::uint32_t n_rows) const;
  /// The most rows, `n_rows` or fewer, that sealing lets a continuation keep: `n_rows` itself when
  /// no layer seals, or those rows are the open block's; else whole blocks.
  /// REQUIRES: n_rows <= n_rows()
  std::uint32_t resumable_rows(std::uint32_t n_rows) const;
  /// A sequence over the same rows [0, n_rows): shares every block, copies none. Allocates the
  /// tables. REQUIRES: can_truncate(n_rows); and while rows are reserved (the block that will take
  /// them must not become shared) that n_rows ends before or at the last full block.
  SequenceCache fork(std::uint32_t n_rows) const { return fork_as(n_rows, *shape_, max_tokens_); }
  /// The same of a sequence that drops its rows otherwise: the shapes differ in nothing but
  /// CacheLayer::max_stored, ::most_stored, ::repacks, CacheShape::heads_apart, and which class of
  /// equal block sizes a layer has. REQUIRES: the same, and no rows were dropped unless the shape
  /// is its own
  SequenceCache fork_as(std::uint32_t n_rows, const CacheShape& shape,
                        std::uint32_t max_tokens) const;

  // Stripes, for whoever shares them between sequences: the blocks of one run of block_tokens rows,
  // [n_tables()], layer by layer and head by head. Where a layer seals: the sealed one of a full
  // run, the open one of the last rows.
  std::size_t n_tables() const noexcept { return tables_.size(); }
  /// kNoBlock where a window let go of the block. REQUIRES: the run holds rows
  void stripe(std::uint32_t run, std::span<BlockId> out) const;
  /// Lengthens the cache by `n_rows` rows that stand in these blocks, and shares them; kNoBlock
  /// only where no later query looks. REQUIRES: whole blocks of rows, none reserved; with a layer
  /// that seals, a full stripe is taken in full
  void append_stripe(std::span<const BlockId> blocks, std::uint32_t n_rows);
  /// Lets go of its own blocks of a full run where `blocks` has others with the same bits, and
  /// shares those. Returns how many.
  std::size_t replace_stripe(std::uint32_t run, std::span<const BlockId> blocks);
  /// The first run that a query at position `n_rows` sees through the layers with windows; the run
  /// behind the last when there are no such layers.
  static std::uint32_t first_window_run(const CacheShape& shape, std::uint32_t n_rows);

  /// Blocks of a head; only the full ones where the layer seals.
  const BlockTable& table(std::uint32_t layer, std::uint32_t kv_head) const;
  /// True where the layer seals, and rows are reserved or the last block is not full.
  bool has_open_block(std::uint32_t layer) const;
  /// REQUIRES: has_open_block(layer)
  BlockId open_block(std::uint32_t layer, std::uint32_t kv_head) const;
  std::size_t bytes() const;  // of all blocks it refers to, shared ones in full
  /// Rows that its blocks hold: mean over the tables of all layers and heads.
  double mean_held_rows() const;

 private:
  struct Growth {                // what one layer needs
    bool copy_last = false;      // its last block is shared and will be written
    bool open = false;           // an open block is wanted beside the full ones
    std::uint32_t n_runs = 0;    // block runs to add
    std::uint32_t n_raw = 0;     // of those, where the layer seals, of the open class
    std::uint32_t n_spares = 0;  // beside them, where it does not
  };
  std::span<BlockTable> tables(std::size_t layer);
  std::span<const BlockTable> tables(std::size_t layer) const;
  std::uint32_t n_stored_of(std::size_t layer, std::uint32_t n_rows) const {
    return n_rows - n_dropped_[layer];
  }
  BlockId block_of(std::size_t layer, std::size_t head, std::uint32_t row) const;
  Growth growth(std::size_t layer, std::uint32_t n, std::uint32_t n_kept = 0) const;
  bool shares_blocks(std::size_t layer) const;
  std::span<BlockTable> spare_tables(std::size_t layer);
  std::vector<std::uint32_t> runs_that_stay(std::size_t layer, std::span<const std::uint32_t> kept,
                                            std::uint32_t n_kept) const;
  std::span<BlockTable> open_tables(std::size_t layer);
  std::span<const BlockTable> open_tables(std::size_t layer) const;
  std::uint32_t extents_per_run(const CacheLayer& layer, BlockClass cls) const;
  bool is_raw(const CacheLayer& layer, std::uint32_t run) const {
    return layer.seals() && run < shape_->raw_blocks;
  }
  void count_growth(std::size_t layer, std::uint64_t n_sealed, const Growth& growth,
                    std::span<std::uint32_t> extents_per_class) const;
  std::uint32_t blocks_for(std::uint32_t n_rows) const;
  std::uint32_t blocks_for(std::size_t layer, std::uint32_t n_rows) const;
  static std::uint32_t first_visible_block(const CacheShape& shape, std::uint32_t n_rows,
                                           std::uint32_t window);
  void end_at(std::uint32_t n_rows);
  void leave_windows();
  void copy_last_run(std::size_t layer, std::vector<BlockCopy>& copies);
  void add_run(std::size_t layer);
  void add_open(std::size_t layer);
  void add_spare(std::size_t layer);
  template <class F>
  void acquire_run(std::span<BlockTable> heads, BlockClass cls, F&& take);

  const CacheShape* shape_;
  BlockPool* pool_;
  std::uint32_t max_tokens_;
  std::uint32_t n_rows_ = 0;
  std::uint32_t n_reserved_ = 0;
  std::vector<std::size_t> first_table_;  // [n_layers + 1]: where a layer's tables begin
  std::vector<BlockTable> tables_;        // [n_layers][n_kv_heads]
  std::vector<BlockTable> open_;          // the same, one block each at most; empty if none seals
  bool seals_ = false;                    // some layer does
  std::vector<std::uint32_t> n_dropped_;  // [n_layers] rows
  std::uint32_t dropped_at_ = 0;          // n_rows() when rows were dropped last; 0: never
  std::vector<BlockTable> spares_;        // as tables_; empty if no layer drops
};

}  // namespace larder
