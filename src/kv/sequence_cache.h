// The KV cache of one sequence: a block table per (layer, KV head), grown, forked and trimmed together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kv/block_pool.h"
#include "kv/block_table.h"

namespace larder {

struct CacheLayer {           // facts of one layer that decide about its blocks
  std::uint32_t n_kv_heads;
  std::uint32_t window;       // 0: all rows are kept
  BlockClass open_class;      // class of its blocks (open and sealed are the same for raw formats)
};

struct CacheShape {
  std::uint32_t block_tokens;  // power of two, 16..128
  std::vector<CacheLayer> layers;
};

struct BlockCopy {  // the caller copies the bytes (store/block_store.h) before the step runs
  BlockId from, to;
};

/// Not thread-safe; moves, does not copy. See invariants 1 and 2 of docs/architecture.md.
class SequenceCache {
 public:
  /// `shape` and `pool` must outlive it. `max_tokens` bounds the tables (reserved here, not on the step path).
  SequenceCache(const CacheShape& shape, BlockPool& pool, std::uint32_t max_tokens);

  std::uint32_t n_rows() const noexcept;  // rows appended so far (true length)
  /// Extents needed, per class (index = BlockClass), so that `n` more rows fit: what an admission asks.
  void count_needed(std::uint32_t n, std::span<std::uint32_t> extents_per_class) const;
  /// Makes room for `n` more rows: first copies a shared, partly filled last block (appended to `copies`), then
  /// acquires whole extents. False (and nothing changed) when the pool cannot give them.
  bool reserve(std::uint32_t n, std::vector<BlockCopy>& copies);
  /// Rows were written: n_rows grows; blocks that no later query can see (sliding window) are released.
  void commit(std::uint32_t n);
  void truncate(std::uint32_t n_rows);  // forgets rows at the end (REQUIRES: n_rows <= n_rows(); windowed blocks stay gone)
  /// True when a continuation from `n_rows` sees every row that it would need (no window block was freed).
  bool can_truncate(std::uint32_t n_rows) const;
  /// A sequence over the same rows [0, n_rows): shares every block, copies none.
  SequenceCache fork(std::uint32_t n_rows) const;
  const BlockTable& table(std::uint32_t layer, std::uint32_t kv_head) const;
  std::size_t bytes() const;  // of all blocks it refers to, shared ones in full
  // private part: the implementer's
};

}  // namespace larder
