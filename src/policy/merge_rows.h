// Which kept rows take up rows that are dropped.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/row_merge.h"
#include "policy/select_rows.h"

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

struct RunRule {
  ProtectedRows protect;  // rows that are in no run of more than one,
  std::uint32_t n_heavy;  // nor are so many of the others, those with the highest scores
};

/// Runs of neighbouring rows, so many that kept.size() rows stay, one of each run: the pairs of
/// neighbours with the highest likeness stand in the same run. likeness[i] is that of the keys of
/// rows i and i + 1; `scores` [n_rows], likeness [n_rows - 1]. Of a run the row with the highest
/// score stays. Where there are not enough pairs, the runs with the lowest scores are dropped. Of
/// equal scores that of a newer row counts as higher, of equal pairs the newer. `kept`, ascending,
/// is overwritten, and `to` [n_rows]: the place in `kept` of the row that each row joins (or is),
/// kDropped where there is none. Method: KVMerger, Wang et al. 2024 (arXiv:2407.08454), which joins
/// neighbours above a threshold of likeness. REQUIRES: kept holds the protected rows at least
inline constexpr std::uint32_t kDropped = UINT32_MAX;
void join_runs(std::span<const float> scores, std::span<const float> likeness, const RunRule& rule,
               std::span<std::uint32_t> kept, std::span<std::uint32_t> to);

/// A row of a run and how far its key is from that of the row that stays.
struct RunMember {
  std::uint32_t from, to;  // as in RowMerge
  float distance;
};

/// Weights in a run: exp(-distance^2 / (2 sigma^2)) over the sum of these, sigma the mean distance
/// over the square root of 2. `members` without the rows that stay, in order of row; own[t] is the
/// weight of kept row t, overwritten. Method: as join_runs.
void weigh_runs(std::span<const RunMember> members, std::span<float> own,
                std::vector<RowMerge>& out);

}  // namespace larder
