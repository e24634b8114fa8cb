// Values of rows that are dropped, taken up by rows that stay.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/row_merge.h"
#include "kernels/key_scores.h"

namespace larder {

/// For each row that is not in `kept` (ascending), in order: nearest[i], the place in `kept` of the
/// row whose key is most like its own (of equally like ones the first), and cosines[i] of the two.
/// Both [n_rows - kept.size()]. REQUIRES: kept is not empty
void likest_keys(const Compute& compute, const KeyRows& keys, std::size_t head,
                 std::span<const std::uint32_t> kept, std::span<std::uint32_t> nearest,
                 std::span<float> cosines);

/// sums[t] = the sum of weight * value[from] over the rows that `to` = t takes up: [n_kept,
/// head_dim], zero where there are none. Order: that of `rows`.
void sum_values(const Compute& compute, const KeyRows& rows, std::size_t head,
                std::span<const RowMerge> merges, std::span<float> sums);

/// value[t] = own[t] * value[t] + sums[t] for the first own.size() rows of the head, once they
/// stand in their places; rows with own[t] = 1 and nothing to add keep their bits.
/// REQUIRES: a raw format, blocks of this sequence alone
void add_values(const KeyRows& rows, std::size_t head, std::span<const float> own,
                std::span<const float> sums);

}  // namespace larder
