#include "kernels/turned_keys.h"

#include <numeric>

#include "base/check.h"

namespace larder {

BlockAngles::BlockAngles(const RopeTable& rope, std::uint32_t block_tokens, std::uint32_t n_context)
    : n_half_(rope.inv_freq.size()),
      block_tokens_(block_tokens),
      n_blocks_((std::size_t{n_context} + block_tokens - 1) / block_tokens),
      adjacent_(rope.adjacent),
      block_cos_(n_blocks_ * n_half_),
      block_sin_(block_cos_.size()),
      row_cos_(n_half_ * block_tokens),
      row_sin_(row_cos_.size()) {
  RopeTable turns = rope;
  turns.amplitude = 1.0F;
  std::vector<std::uint32_t> positions(n_blocks_);
  for (std::size_t b = 0; b < n_blocks_; ++b) {
    positions[b] = static_cast<std::uint32_t>(b * block_tokens);
  }
  rope_angles(turns, positions, block_cos_, block_sin_);
  positions.resize(block_tokens);
  std::iota(positions.begin(), positions.end(), 0U);
  std::vector<float> cos(row_cos_.size()), sin(cos.size());  // [block_tokens, n_half_]
  rope_angles(turns, positions, cos, sin);
  for (std::size_t row = 0; row < block_tokens; ++row) {
    for (std::size_t i = 0; i < n_half_; ++i) {
      row_cos_[i * block_tokens + row] = cos[row * n_half_ + i];
      row_sin_[i * block_tokens + row] = sin[row * n_half_ + i];
    }
  }
}

void BlockAngles::set(std::uint32_t block, simd::KeyTurn& turn) const {
  LARDER_CHECK(block < n_blocks_);
  turn.n_half = n_half_;
  turn.adjacent = adjacent_;
  turn.block_cos = block_cos_.data() + block * n_half_;
  turn.block_sin = block_sin_.data() + block * n_half_;
  turn.row_cos = row_cos_.data();
  turn.row_sin = row_sin_.data();
  turn.row_stride = block_tokens_;
}

KeyCoding key_coding(const KvLayout& layout, std::size_t head_dim, const KeyPlace& place) {
  LARDER_CHECK(layout.k->before_rope != nullptr && layout.key_table != nullptr);
  const KeyTable& table = *layout.key_table;
  const std::size_t first = place.kv_head * head_dim;
  LARDER_CHECK(first + head_dim <= table.mean.size());
  KeyCoding coding{*layout.k->before_rope, table.book, {}};
  coding.turn.mean = table.mean.data() + first;
  coding.turn.spread = table.spread.data() + first;
  coding.turn.inverse = table.inverse.data() + first;
  layout.angles->set(place.block, coding.turn);
  return coding;
}

}  // namespace larder
