// Runs of blocks by way of the primitives for single blocks, for sets without anything faster.
// Templates over functions of one set, so that nothing is shared between sets.
#pragma once

#include "simd/simd.h"

namespace larder::simd {

template <ScoresFn kScores>
void scores_by_block(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  for (std::size_t b = 0; b < k.n_blocks; ++b) {
    const std::byte* next = b + 1 < k.n_blocks + k.n_next ? k.parts[b + 1] : nullptr;
    kScores(q, {k.parts[b], next}, shape, scores);
    scores.data += shape.block_tokens;
  }
}

template <AccumulateFn kAccumulate>
void accumulate_by_block(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out) {
  for (std::size_t b = 0; n_tokens > 0; ++b) {
    const std::byte* next = b + 1 < v.n_blocks + v.n_next ? v.parts[b + 1] : nullptr;
    const std::uint32_t n = n_tokens < shape.block_tokens ? n_tokens : shape.block_tokens;
    kAccumulate(weights, {v.parts[b], next}, shape, n, out);
    weights.data += shape.block_tokens;
    n_tokens -= n;
  }
}

}  // namespace larder::simd
