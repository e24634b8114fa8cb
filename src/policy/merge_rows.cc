#include "policy/merge_rows.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "base/check.h"

namespace larder {

void share_out(std::span<const float> scores, std::span<const std::uint32_t> kept,
               std::span<const float> lots, std::uint32_t n_heirs, std::vector<RowMerge>& out) {
  LARDER_CHECK(lots.size() == scores.size() && n_heirs > 0);
  out.clear();
  std::size_t next = 0;  // of the kept rows, the first behind row i
  for (std::uint32_t i = 0; i < scores.size(); ++i) {
    if (next < kept.size() && kept[next] == i) {
      ++next;
      continue;
    }
    const std::size_t n = std::min<std::size_t>(n_heirs, kept.size() - next);
    if (n == 0) return;
    float sum = 0;
    for (std::size_t t = next; t < next + n; ++t) sum += scores[kept[t]];
    const float mean = sum / static_cast<float>(n);
    if (!(scores[i] > lots[i] * mean)) continue;
    for (std::size_t t = next; t < next + n; ++t) {
      out.push_back({i, static_cast<std::uint32_t>(t), 1.0F / static_cast<float>(n)});
    }
  }
}

void join_likest(std::span<const Likeness> dropped, std::span<float> own,
                 std::vector<RowMerge>& out) {
  out.clear();
  std::fill(own.begin(), own.end(), 1.0F);
  if (dropped.empty()) return;
  double sum = 0;
  for (const Likeness& one : dropped) sum += double{one.cosine};
  const auto threshold = static_cast<float>(sum / static_cast<double>(dropped.size()));
  const float itself = std::exp(1.0F);
  std::fill(own.begin(), own.end(), itself);  // sums of weights first
  for (const Likeness& one : dropped) {
    if (one.cosine < threshold) continue;
    const float weight = std::exp(one.cosine);
    own[one.to] += weight;
    out.push_back({one.from, one.to, weight});
  }
  for (RowMerge& merge : out) merge.weight /= own[merge.to];
  for (float& x : own) x = itself / x;
}

}  // namespace larder
