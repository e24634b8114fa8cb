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
    const bool unpacks = layout_.k->unpack_k != nullptr;
    const simd::Table& simd = compute_.simd;
    (unpacks ? simd.run_scores_integers : simd.run_scores_bf16)(q, {&decoded, 1, 0}, shape_, tile);
    if (layout_.k->row_scales == nullptr) continue;
    for (std::size_t i = 0; i < tile.n_q; ++i) {
      simd.multiply(scales(b), tile.data + i * tile.stride, shape_.block_tokens);
    }
  }
}

void SealedKeys::decode(std::uint32_t block) {
  if (layout_.is_raw(block) || layout_.k->is_read_as_stored()) return;
  const std::byte* part = layout_.pool + to_offset(blocks_[block]);
  if (layout_.k->unpack_k != nullptr) {
    layout_.k->unpack_k(compute_.simd)(part, shape_, rows(block));
    return;
  }
  compute_.simd.decode_codes_k(*layout_.k->codes, part, shape_, rows(block));
  if (layout_.k->row_scales == nullptr) return;
  compute_.simd.read_halves(part + layout_.k->row_scales(shape_), shape_.block_tokens,
                            scales(block));
}

}  // namespace larder
