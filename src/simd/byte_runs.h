// Runs of byte parts as sets work on them: a few queries at a time, and V as many blocks at a time
// as have their weights rounded together. Templates over functions of one set, so that nothing is
// shared between sets.
#pragma once

#include "simd/byte_rows.h"

namespace larder::simd {
namespace {  // not shared between instruction sets

/// f(number of queries, the first of them), at most kMost, as even as it goes.
template <std::size_t kMost, class F>
inline void for_each_few(std::size_t n_q, F&& f) {
  const std::size_t n_parts = (n_q + kMost - 1) / kMost;
  for (std::size_t i = 0, first = 0; i < n_parts; ++i) {
    const std::size_t n = (n_q - first) / (n_parts - i);
    f(n, first);
    first += n;
  }
}

/// f(the run from some blocks on, their number, the scales of their rows, their first row). Scales
/// stand `at_scales` behind the beginning of a part.
template <void (*kReadHalves)(const std::byte*, std::size_t, float*), class F>
inline void for_each_byte_run(const KvRun& v, BlockShape shape, std::size_t at_scales,
                              std::size_t n_tokens, F&& f) {
  alignas(64) float scales[kByteRun];
  const std::size_t n_tokens_of_block = shape.block_tokens;
  const std::size_t n_of_run = byte_run_tokens(shape) / n_tokens_of_block;
  const std::size_t n_blocks = n_tokens / n_tokens_of_block;
  for (std::size_t b = 0; b < n_blocks; b += n_of_run) {
    const std::size_t n = n_blocks - b < n_of_run ? n_blocks - b : n_of_run;
    for (std::size_t i = 0; i < n; ++i) {
      kReadHalves(v.parts[b + i] + at_scales, n_tokens_of_block, scales + i * n_tokens_of_block);
    }
    f(KvRun{v.parts + b, v.n_blocks - b, v.n_next}, n, scales, b * n_tokens_of_block);
  }
}

}  // namespace
}  // namespace larder::simd
