// Which rows of a KV head stay, by their scores.
#pragma once

#include <cstdint>
#include <span>

namespace larder {

struct ProtectedRows {
  std::uint32_t n_first, n_last;
};

/// Fills `kept` with the indices, ascending, of the rows that stay: the protected ones, and of the
/// others those with the highest scores; of equal scores the newer row's counts as higher.
/// REQUIRES: kept.size() <= scores.size(), kept.size() >= n_first + n_last, no score is NaN.
/// `order` [scores.size()] is overwritten.
void select_rows(std::span<const float> scores, ProtectedRows protect,
                 std::span<std::uint32_t> order, std::span<std::uint32_t> kept);

}  // namespace larder
