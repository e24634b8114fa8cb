// Which kept rows take up rows that are dropped.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/row_merge.h"

namespace larder {

/// CaM: a dropped row i is shared out among the (at most) `n_heirs` kept rows that follow it, 1 / n
/// of it to each of these n, if lots[i] is less than its score over their mean one. `scores` are
/// sums of attention [n_rows], `kept` ascending, `lots` [n_rows] in [0, 1). `out` is overwritten,
/// in order of the dropped rows. Method: Zhang et al. 2024, Cache Merging (OpenReview LCTmppB165).
void share_out(std::span<const float> scores, std::span<const std::uint32_t> kept,
               std::span<const float> lots, std::uint32_t n_heirs, std::vector<RowMerge>& out);

/// Of a dropped row, the kept one whose key is most like its own.
struct Likeness {
  std::uint32_t from, to;  // as in RowMerge
  float cosine;            // of the keys
};

/// D2O: a dropped row joins the kept one it is most like if it is at least as like it as dropped
/// rows are on average; those that join, and the kept one itself, weigh exp(cosine) over the sum of
/// these. own[t], [n_kept], overwritten, is what is left of kept row t. Method: Wan et al. 2024
/// (arXiv:2406.13035), whose threshold is also carried over from one time to the next.
void join_likest(std::span<const Likeness> dropped, std::span<float> own,
                 std::vector<RowMerge>& out);

}  // namespace larder
