// Neighbouring rows with alike keys, which become one.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "base/check.h"
#include "policy/merge_rows.h"

namespace larder {
namespace {

/// The first `n` of `order` are those with the highest values, of equal ones the newer.
void put_highest_first(std::span<const float> values, std::size_t n,
                       std::span<std::uint32_t> order) {
  const auto cut = order.begin() + static_cast<std::ptrdiff_t>(n);
  if (cut == order.end()) return;
  std::nth_element(order.begin(), cut, order.end(), [values](std::uint32_t a, std::uint32_t b) {
    return values[a] != values[b] ? values[a] > values[b] : a > b;
  });
}

/// Rows that are in no run of more than one.
std::vector<bool> rows_apart(std::span<const float> scores, const RunRule& rule) {
  const std::size_t n = scores.size();
  std::vector<bool> apart(n, false);
  std::vector<std::uint32_t> others;
  for (std::uint32_t i = 0; i < n; ++i) {
    apart[i] = i < rule.protect.n_first || i + rule.protect.n_last >= n;
    if (!apart[i]) others.push_back(i);
  }
  const std::size_t n_heavy = std::min<std::size_t>(rule.n_heavy, others.size());
  put_highest_first(scores, n_heavy, others);
  for (std::size_t i = 0; i < n_heavy; ++i) apart[others[i]] = true;
  return apart;
}

struct Run {
  std::uint32_t begin, end;  // rows
  std::uint32_t best;        // the one that stays
};

/// joined[i]: rows i and i + 1 stand in the same run.
std::vector<Run> make_runs(std::span<const float> scores, const std::vector<bool>& joined) {
  std::vector<Run> runs;
  for (std::uint32_t i = 0; i < scores.size(); ++i) {
    if (i == 0 || !joined[i - 1]) {
      runs.push_back({i, i + 1, i});
      continue;
    }
    Run& run = runs.back();
    run.end = i + 1;
    if (scores[i] >= scores[run.best]) run.best = i;
  }
  return runs;
}

}  // namespace

void join_runs(std::span<const float> scores, std::span<const float> likeness, const RunRule& rule,
               std::span<std::uint32_t> kept, std::span<std::uint32_t> to) {
  const std::size_t n = scores.size();
  LARDER_CHECK(n > 0 && likeness.size() == n - 1 && to.size() == n && kept.size() <= n);
  const std::vector<bool> apart = rows_apart(scores, rule);
  std::vector<std::uint32_t> pairs;
  for (std::uint32_t i = 0; i + 1 < n; ++i) {
    if (!apart[i] && !apart[i + 1]) pairs.push_back(i);
  }
  const std::size_t n_joined = std::min(n - kept.size(), pairs.size());
  put_highest_first(likeness, n_joined, pairs);
  std::vector<bool> joined(n, false);
  for (std::size_t i = 0; i < n_joined; ++i) joined[pairs[i]] = true;
  std::vector<Run> runs = make_runs(scores, joined);

  std::vector<std::uint32_t> spare;  // rows that stay of runs that need not
  for (const Run& run : runs) {
    const bool is_protected =
        run.best < rule.protect.n_first || run.best + rule.protect.n_last >= n;
    if (!is_protected) spare.push_back(run.best);
  }
  const std::size_t n_spare = runs.size() - kept.size();
  LARDER_CHECK(n_spare <= spare.size());
  put_highest_first(scores, spare.size() - n_spare, spare);
  std::vector<bool> dropped(n, false);
  for (std::size_t i = spare.size() - n_spare; i < spare.size(); ++i) dropped[spare[i]] = true;

  std::uint32_t n_kept = 0;
  for (const Run& run : runs) {
    const bool stays = !dropped[run.best];
    std::fill(to.begin() + run.begin, to.begin() + run.end, stays ? n_kept : kDropped);
    if (stays) kept[n_kept++] = run.best;
  }
}

void weigh_runs(std::span<const RunMember> members, std::span<float> own,
                std::vector<RowMerge>& out) {
  out.clear();
  std::fill(own.begin(), own.end(), 1.0F);
  for (std::size_t begin = 0, end = 0; begin < members.size(); begin = end) {
    const std::uint32_t to = members[begin].to;
    float mean = 0;
    for (end = begin; end < members.size() && members[end].to == to; ++end) {
      mean += members[end].distance;
    }
    mean /= static_cast<float>(end - begin);
    float sum = 1;
    for (std::size_t i = begin; i < end; ++i) {
      const float ratio = mean > 0 ? members[i].distance / mean : 0.0F;
      const float weight = std::exp(-ratio * ratio);  // 2 sigma^2 is the mean squared
      sum += weight;
      out.push_back({members[i].from, to, weight});
    }
    for (std::size_t i = begin; i < end; ++i) out[i].weight /= sum;
    own[to] = 1 / sum;
  }
}

}  // namespace larder
