#include "kv/block_table.h"

#include <utility>

#include "base/check.h"

namespace larder {

BlockTable::BlockTable(BlockPool& pool, std::size_t max_blocks)
    : pool_(&pool), max_blocks_(max_blocks) {
  blocks_.reserve(max_blocks);
}

BlockTable::~BlockTable() { release_all(); }

BlockTable::BlockTable(BlockTable&& other) noexcept
    : pool_(other.pool_),
      max_blocks_(other.max_blocks_),
      first_block_(std::exchange(other.first_block_, 0)),
      blocks_(std::exchange(other.blocks_, {})) {}

BlockTable& BlockTable::operator=(BlockTable&& other) noexcept {
  if (this == &other) return *this;
  release_all();
  pool_ = other.pool_;
  max_blocks_ = other.max_blocks_;
  first_block_ = std::exchange(other.first_block_, 0);
  blocks_ = std::exchange(other.blocks_, {});
  return *this;
}

void BlockTable::push(BlockId owned) {
  LARDER_CHECK(blocks_.size() < max_blocks_);
  blocks_.push_back(owned);
}

void BlockTable::drop_front(std::uint32_t n) {
  LARDER_CHECK(n <= blocks_.size());
  for (std::uint32_t i = 0; i < n; ++i) pool_->release(blocks_[i]);
  blocks_.erase(blocks_.begin(), blocks_.begin() + n);
  first_block_ += n;
}

void BlockTable::clear() {
  release_all();
  first_block_ = 0;
}

void BlockTable::truncate(std::uint32_t end_block) {
  LARDER_CHECK(end_block >= first_block_);
  while (this->end_block() > end_block) {
    pool_->release(blocks_.back());
    blocks_.pop_back();
  }
}

BlockId BlockTable::replace_last(BlockId owned) {
  LARDER_CHECK(!blocks_.empty());
  const BlockId old = std::exchange(blocks_.back(), owned);
  pool_->release(old);
  return old;
}

void BlockTable::replace(std::size_t index, BlockId owned) {
  LARDER_CHECK(index < blocks_.size());
  pool_->release(std::exchange(blocks_[index], owned));
}

void BlockTable::exchange(std::span<const BlockId> owned) {
  LARDER_CHECK(owned.size() <= max_blocks_ && first_block_ == 0);
  blocks_.assign(owned.begin(), owned.end());
}

void BlockTable::begin_at(std::uint32_t first) {
  LARDER_CHECK(blocks_.empty());
  first_block_ = first;
}

BlockTable BlockTable::fork(std::uint32_t end_block, std::size_t max_blocks) const {
  LARDER_CHECK(end_block >= first_block_ && end_block <= this->end_block());
  LARDER_CHECK(end_block - first_block_ <= max_blocks);
  BlockTable other(*pool_, max_blocks);
  other.first_block_ = first_block_;
  for (const BlockId id : blocks().first(end_block - first_block_)) {
    pool_->share(id);
    other.blocks_.push_back(id);
  }
  return other;
}

void BlockTable::release_all() noexcept {
  while (!blocks_.empty()) {
    pool_->release(blocks_.back());
    blocks_.pop_back();
  }
}

}  // namespace larder
