// What the two forms of latent attention share: tiles of queries and the states of their runs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/mla_attention.h"

namespace larder {

/// Queries (rows times heads) that share one pass over cached rows.
inline constexpr std::uint32_t kLatentTile = 32;

/// Cached rows of run `run` that a query at `position` sees, from the run's beginning.
constexpr std::uint32_t rows_seen(std::uint32_t run, std::uint32_t position) noexcept {
  const std::uint32_t begin = run * kRunTokens;
  return position < begin ? 0 : std::min(kRunTokens, position + 1 - begin);
}

/// States of a tile's queries over one run: max [kLatentTile], sum [kLatentTile],
/// out [kLatentTile, kv_rank].
inline std::size_t latent_slot_floats(const LatentShape& shape) noexcept {
  return kLatentTile * (std::size_t{shape.kv_rank} + 2);
}

/// Scores of one query become weights, those of rows it does not see (from `n_seen` up to `n_all`)
/// zero. Returns the state's maximum and sum. Touches nothing else, so that a query's state depends
/// on its own scores alone. REQUIRES: n_seen > 0.
struct Weighed {
  float max, sum;
};
inline Weighed weigh(const simd::Table& simd, float* scores, std::uint32_t n_seen,
                     std::uint32_t n_all) {
  Weighed state{};
  state.max = simd.max(scores, n_seen);
  state.sum = simd.exp_shift_sum(scores, state.max, n_seen, {});
  std::fill(scores + n_seen, scores + n_all, 0.0F);
  return state;
}

}  // namespace larder
