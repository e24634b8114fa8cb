#include "policy/select_rows.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

#include "base/check.h"

namespace larder {

void select_rows(std::span<const float> scores, ProtectedRows protect,
                 std::span<std::uint32_t> order, std::span<std::uint32_t> kept) {
  const std::size_t n_protected = std::size_t{protect.n_first} + protect.n_last;
  LARDER_CHECK(kept.size() <= scores.size() && kept.size() >= n_protected);
  LARDER_CHECK(order.size() == scores.size());
  std::iota(order.begin(), order.end(), 0U);
  const auto begin = order.begin() + protect.n_first;
  const auto end = order.end() - protect.n_last;
  const auto cut = begin + static_cast<std::ptrdiff_t>(kept.size() - n_protected);
  if (cut != end) {
    std::nth_element(begin, cut, end, [scores](std::uint32_t a, std::uint32_t b) {
      return scores[a] != scores[b] ? scores[a] > scores[b] : a > b;
    });
  }
  std::sort(begin, cut);
  const auto last = std::copy(order.begin(), cut, kept.begin());
  std::copy(end, order.end(), last);
}

}  // namespace larder
