// Which blocks hold the rows of a sequence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/block_id.h"
#include "kv/block_pool.h"

namespace larder {

/// The blocks of one (sequence, layer, KV head), in order of position: entry i holds rows
/// (first_block() + i) * block_tokens and following. Owns one reference to each; the destructor releases
/// them in reverse. Move-only. Not thread-safe. Capacity is reserved up front, so growing does not allocate.
class BlockTable {
 public:
  BlockTable(BlockPool& pool, std::size_t max_blocks);
  ~BlockTable();
  BlockTable(BlockTable&&) noexcept;
  BlockTable& operator=(BlockTable&&) noexcept;

  std::span<const BlockId> blocks() const noexcept;
  std::uint32_t first_block() const noexcept;
  std::uint32_t end_block() const noexcept;  // first_block() + blocks().size()

  void push(BlockId owned);             // takes over the reference the caller holds
  void drop_front(std::uint32_t n);     // blocks that left the window
  void truncate(std::uint32_t end_block);  // keeps logical blocks [first, end)
  BlockId replace_last(BlockId owned);  // copy-on-write: releases the old one, returns its id
  /// Another table over the same blocks [first, end_block): references are shared.
  BlockTable fork(std::uint32_t end_block) const;
  // private part: the implementer's
};

}  // namespace larder
