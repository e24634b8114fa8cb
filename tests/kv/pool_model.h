// A plain reference of the block pool: which blocks live, with which count. Built from maps.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <iterator>
#include <map>
#include <vector>

#include "kv/block_pool.h"

namespace larder {

class PoolModel {
 public:
  struct Block {
    std::uint32_t count;
    std::size_t bytes;
  };

  void acquired(BlockId id, std::size_t bytes) {
    const std::size_t begin = to_offset(id);
    const auto next = live_.lower_bound(begin);
    if (next != live_.end()) {
      ASSERT_LE(begin + bytes, next->first) << "overlaps the next";
    }
    if (next != live_.begin()) {
      const auto previous = std::prev(next);
      ASSERT_LE(previous->first + previous->second.bytes, begin) << "overlaps the one before";
    }
    live_[begin] = {1, bytes};
    bytes_ += bytes;
  }
  void shared(BlockId id) { ++live_.at(to_offset(id)).count; }
  bool released(BlockId id) {  // true when the block became free
    Block& block = live_.at(to_offset(id));
    if (--block.count > 0) return false;
    bytes_ -= block.bytes;
    live_.erase(to_offset(id));
    return true;
  }
  /// Invariants 1 and 2 of the design.
  void check(const BlockPool& pool) const {
    ASSERT_EQ(pool.bytes_in_use(), bytes_);
    ASSERT_LE(pool.bytes_in_use(), pool.budget_bytes());
    ASSERT_LE(pool.range_bytes(), pool.budget_bytes());
    ASSERT_LE(pool.bytes_in_use(), pool.peak_bytes());
    for (const auto& [offset, block] : live_) {
      const BlockId id{static_cast<std::uint32_t>(offset / kBlockQuantum)};
      ASSERT_EQ(pool.ref_count(id), block.count);
      ASSERT_EQ(pool.block_bytes(pool.block_class(id)), block.bytes);
      ASSERT_LE(offset + block.bytes, pool.range_bytes());
    }
  }
  std::size_t bytes() const { return bytes_; }
  bool lives(BlockId id) const { return live_.contains(to_offset(id)); }

 private:
  std::map<std::size_t, Block> live_;  // by offset
  std::size_t bytes_ = 0;
};

}  // namespace larder
