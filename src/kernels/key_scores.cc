#include "kernels/key_scores.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"

namespace larder {
namespace {

struct BlockOf {
  const std::byte* begin;
  bool is_open;  // or raw like an open one, where the layer seals
};
BlockOf block_of(const KeyRows& keys, std::size_t head, std::uint32_t row) {
  const KvRows& cached = keys.heads[head];
  LARDER_DCHECK(cached.first_block == 0);
  const std::uint32_t run = row / keys.shape.block_tokens;
  const bool is_full = run < cached.blocks.size();
  LARDER_DCHECK(is_full || keys.layout.seals());
  return {keys.layout.pool + to_offset(is_full ? cached.blocks[run] : cached.open),
          keys.layout.seals() && (!is_full || keys.layout.is_raw(run))};
}

}  // namespace

void read_key(const KeyRows& keys, std::size_t head, std::uint32_t row, float* out) {
  const BlockOf block = block_of(keys, head, row);
  const KvCodec& codec = block.is_open ? *keys.layout.open_k : *keys.layout.k;
  codec.read_k(block.begin, row % keys.shape.block_tokens, keys.shape, out);
}

void read_value(const KeyRows& keys, std::size_t head, std::uint32_t row, float* out) {
  const BlockOf block = block_of(keys, head, row);
  const KvCodec& codec = block.is_open ? *keys.layout.open_v : *keys.layout.v;
  codec.read_v(block.begin + (block.is_open ? keys.layout.open_v_offset : keys.layout.v_offset),
               row % keys.shape.block_tokens, keys.shape, out);
}

void key_norm_scores(const Compute& compute, const KeyRows& keys, std::span<float> out) {
  LARDER_CHECK(out.size() == keys.heads.size() * keys.n_rows);
  compute.pool.for_each(keys.heads.size(), [&](std::size_t head, unsigned) {
    std::vector<float> key(keys.shape.head_dim);
    for (std::uint32_t row = 0; row < keys.n_rows; ++row) {
      read_key(keys, head, row, key.data());
      out[head * keys.n_rows + row] = -std::sqrt(compute.simd.sum_squares(key.data(), key.size()));
    }
  });
}

void key_spread_scores(const Compute& compute, const KeyRows& keys, std::span<float> out) {
  LARDER_CHECK(out.size() == keys.heads.size() * keys.n_rows);
  compute.pool.for_each(keys.heads.size(), [&](std::size_t head, unsigned) {
    const std::size_t n = keys.shape.head_dim;
    std::vector<float> key(n), mean(n, 0.0F);
    float* scores = out.data() + head * keys.n_rows;
    for (std::uint32_t row = 0; row < keys.n_rows; ++row) {
      read_key(keys, head, row, key.data());
      const float norm = std::max(std::sqrt(compute.simd.sum_squares(key.data(), n)), kLeastNorm);
      compute.simd.axpy(1.0F / norm, key.data(), mean.data(), n);
    }
    // The mean's own length changes no order.
    const float length = std::max(std::sqrt(compute.simd.sum_squares(mean.data(), n)), kLeastNorm);
    for (std::uint32_t row = 0; row < keys.n_rows; ++row) {
      read_key(keys, head, row, key.data());
      const float norm = std::max(std::sqrt(compute.simd.sum_squares(key.data(), n)), kLeastNorm);
      scores[row] = -compute.simd.dot(key.data(), mean.data(), n) / (norm * length);
    }
  });
}

}  // namespace larder
