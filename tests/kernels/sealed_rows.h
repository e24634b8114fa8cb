// One layer of one sequence whose full blocks are sealed.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "kernels/key_scores.h"
#include "tensor/buffer.h"

namespace larder {

/// Rows of one layer: full blocks are sealed, the last rows stand in open ones. Heads in turns.
class SealedRows {
 public:
  struct Kind {
    KvFormat k, v;
    BlockShape shape;
    std::uint32_t n_heads;
  };
  /// keys, values [n_rows, n_heads, head_dim]
  SealedRows(const Kind& kind, const Compute& compute, const std::vector<float>& keys,
             const std::vector<float>& values)
      : shape_(kind.shape),
        layout_(make_kv_layout(kv_codec(kind.k), kv_codec(kind.v), kind.shape)),
        n_rows_(static_cast<std::uint32_t>(keys.size() / kind.n_heads / kind.shape.head_dim)) {
    const std::size_t bytes = std::max(kv_block_bytes(layout_, shape_), layout_.open_bytes);
    const std::uint32_t n_blocks = n_rows_ / shape_.block_tokens;
    pool_ = Buffer<std::byte>(bytes * (n_blocks + 1) * kind.n_heads);
    std::memset(pool_.data(), 0xff, pool_.size());
    layout_.pool = pool_.data();
    std::uint32_t next = 0;
    const auto take = [&] {
      return BlockId{static_cast<std::uint32_t>(next++ * bytes / kBlockQuantum)};
    };
    tables_.resize(kind.n_heads);
    for (auto& table : tables_) {
      for (std::uint32_t b = 0; b < n_blocks; ++b) table.push_back(take());
      open_.push_back(take());
    }
    for (std::size_t h = 0; h < kind.n_heads; ++h) heads_.push_back({tables_[h], 0, open_[h]});
    const AttentionItem all = item();
    fresh_ = Buffer<std::byte>(n_fresh_blocks(all, shape_.block_tokens) * kind.n_heads *
                               layout_.open_bytes);
    layout_.fresh = fresh_.data();
    const std::size_t width = std::size_t{kind.n_heads} * shape_.head_dim;
    append_rows(compute, kind.n_heads, shape_, layout_, std::span(&all, 1),
                {keys.data(), values.data(), width, width});
  }
  SealedRows(SealedRows&&) = delete;  // its parts refer to each other
  /// The one step that brought all rows; while nothing moved, its fresh blocks are there.
  AttentionItem item() const { return {0, n_rows_, 0, heads_}; }
  const KvLayout& layout() const { return layout_; }
  std::span<const BlockId> open() const { return open_; }
  BlockId block(std::uint32_t head, std::uint32_t row) const {
    return row / shape_.block_tokens < tables_[head].size()
               ? tables_[head][row / shape_.block_tokens]
               : open_[head];
  }
  std::vector<float> key(std::uint32_t head, std::uint32_t row) const {
    std::vector<float> out(shape_.head_dim);
    read_key({layout_, shape_, heads_, n_rows_}, head, row, out.data());
    return out;
  }
  std::vector<float> value(std::uint32_t head, std::uint32_t row) const {
    std::vector<float> out(shape_.head_dim);
    read_value({layout_, shape_, heads_, n_rows_}, head, row, out.data());
    return out;
  }

 private:
  BlockShape shape_;
  KvLayout layout_;
  std::uint32_t n_rows_;
  Buffer<std::byte> pool_, fresh_;
  std::vector<std::vector<BlockId>> tables_;
  std::vector<BlockId> open_;
  std::vector<KvRows> heads_;
};

}  // namespace larder
