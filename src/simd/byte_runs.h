// Runs of byte parts as sets work on them: a few queries at a time, and V as many blocks at a time
// as have their weights rounded together. Templates over functions of one set, so that nothing is
// shared between sets.
#pragma once

#include "simd/byte_rows.h"

namespace larder::simd {
namespace {  // not shared between instruction sets

[[gnu::always_inline]] constexpr std::size_t least(std::size_t a, std::size_t b) {
  return a < b ? a : b;
}

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

/// f(the run from some block on, a number of tokens, the scales of their rows, the first of them).
/// Scales stand `at_scales` behind the beginning of a part.
template <void (*kReadHalves)(const std::byte*, std::size_t, float*), class F>
inline void for_each_byte_run(const KvRun& v, BlockShape shape, std::size_t at_scales,
                              std::size_t n_tokens, F&& f) {
  alignas(64) float scales[kByteRun];
  const std::size_t n_of_block = shape.block_tokens, n_of_run = byte_run_tokens(shape);
  for (std::size_t first = 0; first < n_tokens; first += n_of_run) {
    const std::size_t b = first / n_of_block, n = least(n_of_run, n_tokens - first);
    for (std::size_t t = 0; t < n; t += n_of_block) {
      kReadHalves(v.parts[b + t / n_of_block] + at_scales, least(n_of_block, n - t), scales + t);
    }
    f(KvRun{v.parts + b, v.n_blocks - b, v.n_next}, n, scales, first);
  }
}

}  // namespace
}  // namespace larder::simd
