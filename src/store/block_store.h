// The bytes of blocks in RAM: one reserved range, committed as it is touched.
#pragma once

#include <cstddef>
#include <span>

#include "base/block_id.h"
#include "larder/result.h"

namespace larder {

/// Owns the address range that a BlockPool's ids point into. Reserved with mmap (no memory is used
/// before a block is written), huge pages advised. Not thread-safe for writes to the same block.
class BlockStore {
 public:
  /// Errors: invalid_argument (zero bytes); unavailable when the address space is not to be had.
  static Result<BlockStore> create(std::size_t range_bytes);
  ~BlockStore();
  BlockStore(BlockStore&&) noexcept;
  BlockStore& operator=(BlockStore&&) noexcept;

  std::byte* pool() const noexcept { return base_; }
  std::size_t size() const noexcept { return size_; }
  std::span<std::byte> bytes(BlockId id, std::size_t n) const noexcept {
    return {base_ + to_offset(id), n};
  }
  void copy(BlockId from, BlockId to, std::size_t n) noexcept;
  /// Gives the memory of whole pages inside [offset, offset + n) back to the operating system; the
  /// bytes read as zero afterwards. One system call: for idle moments, with the ranges that
  /// BlockPool::take_idle lists. REQUIRES: no live block in the range.
  void discard(std::size_t offset, std::size_t n) noexcept;

 private:
  explicit BlockStore(std::byte* base, std::size_t size) : base_(base), size_(size) {}
  std::byte* base_ = nullptr;
  std::size_t size_ = 0;  // as asked for; the mapping is rounded up to pages
};

}  // namespace larder
