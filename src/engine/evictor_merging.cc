// Rows that stay take up rows that are dropped.
#include <algorithm>

#include "engine/evictor.h"
#include "kernels/merge_values.h"
#include "policy/merge_rows.h"
#include "policy/row_lots.h"

namespace larder {

/// What the kept rows take up of the dropped ones, while these are there.
void Evictor::collect_merges(const KeyRows& rows, const Part& part, const Keeping& keeping) {
  merges_.resize(std::max<std::size_t>(merges_.size(), part.n_heads));
  for (std::uint32_t head = 0; head < part.n_heads; ++head) {
    Merge& merge = merges_[head];
    merge.own.assign(keeping.n_keep, 1.0F);
    merge.sums.assign(std::size_t{keeping.n_keep} * block_.head_dim, 0.0F);
    if (options_.policy.merging == Merging::in_runs) {
      collect_runs(rows, part, head, keeping, merge);
      continue;
    }
    collect_merge(rows, part, head,
                  {options_.policy.seed, part.layer, part.first_head + head, keeping.n_tokens},
                  merge);
  }
}

void Evictor::collect_merge(const KeyRows& rows, const Part& part, std::uint32_t head,
                            const Lot& lot, Merge& merge) {
  const std::size_t n_keep = merge.own.size(), n_dropped = part.n_rows - n_keep;
  const auto kept = std::span(kept_).subspan(head * n_keep, n_keep);
  if (n_keep == 0) return;
  std::vector<RowMerge> merged;
  if (options_.policy.merging == Merging::shared_out) {
    std::vector<float> lots(part.n_rows);
    draw_lots(lot, lots);
    share_out(part.scores.subspan(std::size_t{head} * part.n_rows, part.n_rows), kept, lots,
              options_.policy.heirs, merged);
  } else {
    std::vector<std::uint32_t> nearest(n_dropped);
    std::vector<float> cosines(n_dropped);
    likest_keys(compute_, rows, head, kept, nearest, cosines);
    std::vector<Likeness> dropped;
    for (std::uint32_t row = 0, next = 0; row < part.n_rows; ++row) {
      if (next < n_keep && kept[next] == row) {
        ++next;
        continue;
      }
      const std::size_t i = dropped.size();
      dropped.push_back({row, nearest[i], cosines[i]});
    }
    join_likest(dropped, merge.own, merged);
  }
  sum_values(compute_, rows, head, merged, merge.sums);
}

/// Runs of rows with alike keys, each of which leaves one: here these choose the rows that stay.
/// Before rows go for the first time a row stands at its position.
void Evictor::collect_runs(const KeyRows& rows, const Part& part, std::uint32_t head,
                           const Keeping& keeping, Merge& merge) {
  const std::size_t n_rows = part.n_rows, n_keep = keeping.n_keep;
  const auto kept = std::span(kept_).subspan(head * n_keep, n_keep);
  const auto n_heavy = static_cast<std::uint32_t>(std::uint64_t{keeping.n_keep} *
                                                  options_.policy.heavy_percent / 100);
  std::vector<float> likeness(n_rows - 1);
  std::vector<std::uint32_t> to(n_rows);
  neighbour_likeness(compute_, rows, head, model_.rope, likeness);
  join_runs(part.scores.subspan(head * n_rows, n_rows), likeness, {keeping.protect, n_heavy}, kept,
            to);
  std::vector<KeyDistance> pairs;
  for (std::uint32_t row = 0; row < n_rows; ++row) {
    if (to[row] != kDropped && kept[to[row]] != row) pairs.push_back({row, kept[to[row]], 0});
  }
  measure_distances(compute_, rows, head, model_.rope, pairs);
  std::vector<RunMember> members;
  for (const KeyDistance& pair : pairs)
    members.push_back({pair.from, to[pair.from], pair.distance});
  std::vector<RowMerge> merged;
  weigh_runs(members, merge.own, merged);
  sum_values(compute_, rows, head, merged, merge.sums);
  merge.key_sums.resize(merge.sums.size());
  sum_keys(compute_, rows, head, model_.rope, kept, merged, merge.key_sums);
}

}  // namespace larder
