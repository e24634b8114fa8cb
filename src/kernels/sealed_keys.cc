#include "kernels/sealed_keys.h"

namespace larder {

void SealedKeys::score(const float* q, std::uint32_t n_blocks, simd::ScoreTile scores) {
  for (; n_decoded_ < n_blocks; ++n_decoded_) decode(n_decoded_);
  for (std::uint32_t b = 0; b < n_blocks; ++b) {
    const std::byte* part = layout_.pool + to_offset(blocks_[b]);
    const simd::ScoreTile tile{scores.data + std::size_t{b} * shape_.block_tokens, scores.n_q,
                               scores.stride};
    const bool is_raw = layout_.is_raw(b);
    if (is_raw || layout_.k->is_read_as_stored()) {
      const KvCodec& codec = is_raw ? *layout_.open_k : *layout_.k;
      codec.run_scores(compute_.simd)(q, {&part, 1, 0}, shape_, tile);
      continue;
    }
    const std::byte* decoded = rows(b);
    decoded_.run_scores()(q, {&decoded, 1, 0}, shape_, tile);
    if (!decoded_.has_scales_apart()) continue;
    for (std::size_t i = 0; i < tile.n_q; ++i) {
      compute_.simd.multiply(scales(b), tile.data + i * tile.stride, shape_.block_tokens);
    }
  }
}

void SealedKeys::decode(std::uint32_t block) {
  if (layout_.is_raw(block) || layout_.k->is_read_as_stored()) return;
  const std::byte* part = layout_.pool + to_offset(blocks_[block]);
  decoded_.decode(part, rows(block), scales(block));
}

}  // namespace larder
