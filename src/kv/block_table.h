// Which blocks hold the rows of a sequence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/block_id.h"
#include "kv/block_pool.h"

namespace larder {

/// The blocks of one (sequence, layer, KV head), in order of position: entry i holds rows
/// (first_block() + i) * block_tokens and following. Owns one reference to each; the destructor
/// releases them in reverse. Move-only; the pool must outlive it. Not thread-safe. Capacity is
/// reserved up front, so growing does not allocate.
class BlockTable {
 public:
  BlockTable(BlockPool& pool, std::size_t max_blocks);
  ~BlockTable();
  BlockTable(BlockTable&&) noexcept;
  BlockTable& operator=(BlockTable&&) noexcept;

  std::span<const BlockId> blocks() const noexcept { return blocks_; }
  std::uint32_t first_block() const noexcept { return first_block_; }
  std::uint32_t end_block() const noexcept {  // first_block() + blocks().size()
    return first_block_ + static_cast<std::uint32_t>(blocks_.size());
  }

  std::size_t max_blocks() const noexcept { return max_blocks_; }

  void push(BlockId owned);  // takes over the caller's reference. REQUIRES: fewer than max_blocks
  /// Releases the `n` oldest blocks (they left the window). REQUIRES: n <= blocks().size()
  void drop_front(std::uint32_t n);
  void clear();  // releases all; begins at block 0 again
  /// Keeps the blocks [first_block(), end_block) of the sequence, releases the others.
  /// REQUIRES: end_block >= first_block()
  void truncate(std::uint32_t end_block);
  /// Copy-on-write: takes over `owned` in place of the last block; releases that and returns its
  /// id.
  BlockId replace_last(BlockId owned);
  /// The same for any of its blocks; `index` counts from first_block().
  void replace(std::size_t index, BlockId owned);
  /// Its blocks are `owned` from now on. The caller takes over the references to the old ones, and
  /// hands over one to each new one. REQUIRES: max_blocks at most, first_block() 0
  void exchange(std::span<const BlockId> owned);
  /// An empty table begins at block `first` of the sequence. REQUIRES: no blocks
  void begin_at(std::uint32_t first);
  /// Another table of the same capacity over the blocks [first_block(), end_block): references are
  /// shared. REQUIRES: first_block() <= end_block <= this->end_block()
  BlockTable fork(std::uint32_t end_block) const { return fork(end_block, max_blocks_); }
  /// The same of another capacity. REQUIRES: the blocks fit it
  BlockTable fork(std::uint32_t end_block, std::size_t max_blocks) const;

 private:
  void release_all() noexcept;

  BlockPool* pool_;
  std::size_t max_blocks_;
  std::uint32_t first_block_ = 0;
  std::vector<BlockId> blocks_;
};

}  // namespace larder
