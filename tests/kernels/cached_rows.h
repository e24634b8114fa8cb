// The blocks of one layer of one sequence, filled row by row.
#pragma once

#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "tensor/buffer.h"

namespace larder {

class CachedRows {
 public:
  /// Room for `n_rows` of each head; bytes that nobody wrote are NaN in every format.
  CachedRows(KvFormat k, KvFormat v, BlockShape shape, std::uint32_t n_kv_heads,
             std::uint32_t n_rows)
      : shape_(shape), layout_(make_kv_layout(kv_codec(k), kv_codec(v), shape)) {
    const std::uint32_t n_blocks = (n_rows + shape.block_tokens - 1) / shape.block_tokens;
    const std::size_t bytes = kv_block_bytes(layout_, shape);
    pool_ = Buffer<std::byte>(bytes * n_blocks * n_kv_heads);
    std::memset(pool_.data(), 0xff, pool_.size());
    layout_.pool = pool_.data();
    ids_.resize(n_kv_heads);
    for (std::uint32_t b = 0; b < n_blocks; ++b) {
      for (std::uint32_t h = 0; h < n_kv_heads; ++h) {
        const std::size_t index = std::size_t{b} * n_kv_heads + h;
        ids_[h].push_back(BlockId{static_cast<std::uint32_t>(index * bytes / kBlockQuantum)});
      }
    }
    for (const auto& ids : ids_) heads_.push_back({ids});
  }

  const KvLayout& layout() const { return layout_; }
  std::span<const KvRows> heads() const { return heads_; }
  BlockId block(std::uint32_t head, std::uint32_t row) const {
    return ids_[head][row / shape_.block_tokens];
  }
  void write(std::uint32_t head, std::uint32_t row, const float* k, const float* v) {
    std::byte* at = layout_.pool + to_offset(block(head, row));
    layout_.k->append_k(k, row % shape_.block_tokens, shape_, at);
    layout_.v->append_v(v, row % shape_.block_tokens, shape_, at + layout_.v_offset);
  }
  std::vector<float> key(std::uint32_t head, std::uint32_t row) const {
    std::vector<float> out(shape_.head_dim);
    layout_.k->read_k(layout_.pool + to_offset(block(head, row)), row % shape_.block_tokens, shape_,
                      out.data());
    return out;
  }
  std::vector<float> value(std::uint32_t head, std::uint32_t row) const {
    std::vector<float> out(shape_.head_dim);
    layout_.v->read_v(layout_.pool + to_offset(block(head, row)) + layout_.v_offset,
                      row % shape_.block_tokens, shape_, out.data());
    return out;
  }

 private:
  BlockShape shape_;
  KvLayout layout_;
  Buffer<std::byte> pool_;
  std::vector<std::vector<BlockId>> ids_;  // [n_kv_heads]
  std::vector<KvRows> heads_;
};

inline std::vector<float> random_floats(std::size_t n, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& f : x) f = normal(random);
  return x;
}

}  // namespace larder
