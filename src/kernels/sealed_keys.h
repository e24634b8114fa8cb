// Sealed keys as many queries of a step meet them, one block after the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "kernels/decoded_parts.h"

namespace larder {

/// The full blocks of one KV head of a layer that seals. Those whose rows are codes are decoded
/// once, the first time they are asked for, as SealedRun does for many queries. Not thread-safe.
class SealedKeys {
 public:
  /// Memory for `max_rows` rows, in floats.
  static constexpr std::size_t n_floats(std::size_t max_rows, std::size_t head_dim) {
    return DecodedParts::n_floats(max_rows, head_dim);
  }
  /// Borrows all; `memory` [n_floats] is overwritten. REQUIRES: layout.seals()
  SealedKeys(const Compute& compute, const KvLayout& layout, BlockShape shape,
             std::span<const BlockId> blocks, float* memory)
      : compute_(compute),
        layout_(layout),
        shape_(shape),
        blocks_(blocks),
        memory_(memory),
        decoded_(compute.simd, *layout.k, shape, true) {}

  /// Scores of queries [scores.n_q, head_dim] against the rows of the first `n_blocks` blocks.
  void score(const float* q, std::uint32_t n_blocks, simd::ScoreTile scores);

 private:
  float* scales(std::uint32_t block) const { return memory_ + block * block_floats(); }
  std::byte* rows(std::uint32_t block) const {
    return reinterpret_cast<std::byte*>(scales(block) + shape_.block_tokens);
  }
  std::size_t block_floats() const { return n_floats(shape_.block_tokens, shape_.head_dim); }
  void decode(std::uint32_t block);

  const Compute& compute_;
  const KvLayout& layout_;
  BlockShape shape_;
  std::span<const BlockId> blocks_;
  float* memory_;
  DecodedParts decoded_;
  std::uint32_t n_decoded_ = 0;
};

}  // namespace larder
