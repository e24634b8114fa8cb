// When rows of a sequence are dropped.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/column_sums.h"

namespace larder {

/// The lengths of a text at which its cache is cut down to `n_keep` rows per layer and head. They
/// depend on the request alone; no chunk of rows goes past one. So what a row sees does not depend
/// on chunks, batches, or whether its sequence was preempted (docs/decisions/0013).
struct EvictionPoints {
  std::uint32_t n_keep = 0;      // 0: nothing is ever dropped
  std::uint32_t every = 0;       // multiples of this are points; 0: none
  std::uint32_t prompt_end = 0;  // so is this; 0: none
  std::uint32_t n_most = 0;      // rows of a layer that stay at most, when n_keep do on average
  std::uint32_t n_observed = 0;  // queries before a point whose attention counts there
  std::uint32_t n_reread = 0;    // tokens of the prompt that are read again at a time before rows
                                 // go at its end, and whose attention counts; 0: it is not

  std::uint32_t n_near = 0;  // ObservedPlace::n_near

  /// The first point behind `n_rows` rows at which there is something to drop; UINT32_MAX: none.
  std::uint32_t next(std::uint32_t n_rows) const noexcept {
    if (n_keep == 0) return UINT32_MAX;
    const std::uint32_t after = std::max(n_rows, n_keep);
    const std::uint32_t periodic = every == 0 ? UINT32_MAX : (after / every + 1) * every;
    return prompt_end > after ? std::min(periodic, prompt_end) : periodic;
  }
  /// Rows, from the first on, that may come from elsewhere: those of a full cache, and none whose
  /// attention would have counted.
  std::uint32_t n_shareable() const noexcept {
    const std::uint32_t first = next(0);
    return first == UINT32_MAX ? first : first - std::min(first, std::max(n_observed, 1U));
  }
  /// The first row from `n_rows` on whose attention counts at the next point; UINT32_MAX: none.
  std::uint32_t next_observed(std::uint32_t n_rows) const noexcept {
    const std::uint32_t point = next(n_rows);
    if (n_observed == 0 || point == UINT32_MAX) return UINT32_MAX;
    return std::max(n_rows, point - std::min(point, n_observed));
  }
  /// Of the query at `position`, one that counts.
  ObservedPlace place_of(std::uint32_t position) const noexcept {
    const std::uint32_t point = next(position);
    const std::uint32_t n_counting = n_observed == UINT32_MAX ? 0 : std::min(n_observed, point);
    return {position, prompt_end, n_counting == 0 ? 0 : position - (point - n_counting), n_counting,
            n_near};
  }
  /// The rows behind which the prompt is read again: all but its last token's, so that the state
  /// behind the prompt comes from the full cache and after all that. 0: it is not.
  std::uint32_t reread_at() const noexcept {
    return n_reread != 0 && n_keep != 0 && prompt_end > std::max(n_keep, 1U) ? prompt_end - 1 : 0;
  }
  bool contains(std::uint32_t n_rows) const noexcept {
    return n_rows > 0 && next(n_rows - 1) == n_rows;
  }
  bool operator==(const EvictionPoints&) const = default;
};

}  // namespace larder
