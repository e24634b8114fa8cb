#include "policy/hybrid_patterns.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include "base/check.h"

namespace larder {
namespace {

/// What falls on the rows of a pattern.
double recovered(const PatternSums& sums, std::span<const float> stays, bool with_local) {
  double sum = 0;
  for (std::size_t i = 0; i < stays.size(); ++i) {
    if (stays[i] != 0) {
      sum += double{sums.all[i]};
    } else if (with_local) {
      sum += double{sums.all[i]} - double{sums.far[i]};
    }
  }
  return sum;
}

void add_kind(std::span<const TokenKind> kinds, TokenKind kind, std::span<float> stays) {
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i] == kind) stays[i] = 1;
  }
}

void add_frequent(std::span<const float> sums, std::uint32_t n, std::span<float> stays) {
  std::vector<std::uint32_t> order(sums.size());
  std::iota(order.begin(), order.end(), 0U);
  const auto end = order.begin() + std::min<std::ptrdiff_t>(n, std::ssize(order));
  std::partial_sort(order.begin(), end, order.end(), [sums](std::uint32_t a, std::uint32_t b) {
    return sums[a] != sums[b] ? sums[a] > sums[b] : a > b;
  });
  for (auto it = order.begin(); it != end; ++it) stays[*it] = 1;
}

}  // namespace

HybridPattern fit_pattern(const PatternSums& sums, std::span<const TokenKind> kinds,
                          const PatternRule& rule, std::span<float> stays) {
  const std::size_t n = stays.size();
  LARDER_CHECK(sums.all.size() == n && sums.far.size() == n && kinds.size() == n);
  const double total = std::accumulate(sums.all.begin(), sums.all.end(), 0.0);
  const double wanted = total * rule.recover_percent / 100;
  std::fill(stays.begin(), stays.end(), 0.0F);
  std::fill_n(stays.begin(), std::min<std::size_t>(rule.protect.n_first, n), 1.0F);
  std::fill_n(stays.rbegin(), std::min<std::size_t>(rule.protect.n_last, n), 1.0F);
  add_kind(kinds, TokenKind::special, stays);
  if (recovered(sums, stays, false) >= wanted) return HybridPattern::special;
  add_kind(kinds, TokenKind::punctuation, stays);
  if (recovered(sums, stays, false) >= wanted) return HybridPattern::punctuation;
  add_frequent(sums.all, rule.n_frequent, stays);
  if (recovered(sums, stays, false) >= wanted) return HybridPattern::frequent;
  if (recovered(sums, stays, true) >= wanted) {
    std::fill_n(stays.rbegin(), std::min<std::size_t>(rule.n_local, n), 1.0F);
    return HybridPattern::local;
  }
  std::fill(stays.begin(), stays.end(), 1.0F);
  return HybridPattern::all;
}

}  // namespace larder
