// Reference counts and free space over the physical blocks of the KV cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/block_id.h"
#include "larder/result.h"

namespace larder {

/// Index of a block size in BlockPoolOptions::classes.
enum class BlockClass : std::uint8_t {};

struct BlockClassSpec {
  std::size_t block_bytes;      // multiple of kBlockQuantum
  std::uint32_t extent_blocks;  // blocks of all KV heads of a layer for one token run: 1..64
};

struct BlockPoolOptions {
  std::size_t budget_bytes = 0;
  std::vector<BlockClassSpec> classes;
  std::size_t slab_bytes = 0;  // 0: chosen (large enough for 8 extents of every class, else 2 MiB)
};

/// Hands out blocks within a byte budget. One range of `budget_bytes` is cut into slabs; a slab
/// serves one class while it holds any live block and returns to the common stock when it holds none, so
/// blocks of different formats live side by side and the budget is exact. Extents keep the blocks
/// of all heads of a layer next to each other (design: strewn 4-bit blocks lose a quarter of the
/// bandwidth); single blocks fill extents that were partly freed.
/// Knows ids and sizes; never bytes, tokens or policies.
/// Invariants: a block is free exactly when its count is zero; bytes_in_use() is the sum of
/// block_bytes over live blocks and never exceeds the budget. Not thread-safe: one scheduler owns
/// it. Allocates memory only in the constructor.
class BlockPool {
 public:
  /// Errors: invalid_argument (sizes), when the budget cannot hold one extent of each class.
  static Result<BlockPool> create(const BlockPoolOptions& options);

  /// `out.size()` neighbouring blocks, each with count 1. False when they are not to be had (an outcome,
  /// not an error); then nothing is taken. REQUIRES: out.size() <= extent_blocks of the class.
  bool acquire_extent(BlockClass cls, std::span<BlockId> out);
  std::optional<BlockId> acquire(BlockClass cls);  // one block, from a broken extent if there is one
  void share(BlockId id);    // count + 1. REQUIRES: count > 0
  bool release(BlockId id);  // count - 1; true when that made the block free. REQUIRES: count > 0

  std::uint32_t ref_count(BlockId id) const;
  BlockClass block_class(BlockId id) const;
  std::size_t block_bytes(BlockClass cls) const;
  std::size_t budget_bytes() const noexcept;
  std::size_t bytes_in_use() const noexcept;
  std::size_t peak_bytes() const noexcept;    // highest bytes_in_use() so far
  std::size_t range_bytes() const noexcept;   // bytes to reserve for the pool; <= budget
  /// Extents of the class that could be acquired right now.
  std::size_t n_free_extents(BlockClass cls) const noexcept;
  // private part: the implementer's
};

}  // namespace larder
