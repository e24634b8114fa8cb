#include "policy/split_rows.h"

#include <algorithm>
#include <cstddef>
#include <functional>

#include "base/check.h"

namespace larder {

void split_rows(std::span<const std::span<const float>> scores, ProtectedRows protect,
                const HeadBudget& budget, std::span<std::uint32_t> counts) {
  const std::size_t n_heads = scores.size();
  const std::uint32_t n_protected = protect.n_first + protect.n_last;
  LARDER_CHECK(counts.size() == n_heads && budget.n_keep >= n_protected);
  const std::uint32_t mean = budget.n_keep - n_protected;
  std::vector<float> all;
  const auto open_rows = [&](std::size_t head) {
    const std::size_t n = scores[head].size();
    return scores[head].subspan(std::min<std::size_t>(protect.n_first, n),
                                n - std::min<std::size_t>(n_protected, n));
  };
  for (std::size_t h = 0; h < n_heads; ++h) {
    all.insert(all.end(), open_rows(h).begin(), open_rows(h).end());
  }
  const std::size_t n_best = std::min(all.size(), n_heads * mean);
  float least = 0;  // of the best
  std::size_t n_ties = 0;
  if (n_best > 0) {
    std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n_best - 1), all.end(),
                     std::greater<>());
    least = all[n_best - 1];
    n_ties = n_best - static_cast<std::size_t>(std::count_if(
                          all.begin(), all.end(), [least](float s) { return s > least; }));
  }
  for (std::size_t h = 0; h < n_heads; ++h) {
    std::size_t n = 0;
    for (const float s : open_rows(h)) {
      if (n_best == 0 || s < least || (s == least && n_ties == 0)) continue;
      if (s == least) --n_ties;
      ++n;
    }
    const std::uint64_t hundredfold = (100 - budget.floor_percent) * std::uint64_t{n} +
                                      std::uint64_t{budget.floor_percent} * mean;
    counts[h] = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(n_protected + hundredfold / 100, scores[h].size()));
  }
}

}  // namespace larder
