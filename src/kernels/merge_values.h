// Values, and keys, of rows that are dropped, taken up by rows that stay.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/row_merge.h"
#include "kernels/key_scores.h"
#include "kernels/rope.h"

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

// Keys are compared and added at one position: those of other rows are turned there first, by
// `rope`, whose amplitude does not count. REQUIRES: row i of the cache stands at position i

/// out[i], [n_rows - 1]: the cosine between the keys of rows i and i + 1.
void neighbour_likeness(const Compute& compute, const KeyRows& keys, std::size_t head,
                        const RopeTable& rope, std::span<float> out);
/// Of the keys of rows `from` and `to`, how far they are apart.
struct KeyDistance {
  std::uint32_t from, to;
  float distance;
};
void measure_distances(const Compute& compute, const KeyRows& keys, std::size_t head,
                       const RopeTable& rope, std::span<KeyDistance> pairs);
/// As sum_values, of keys: those of row `from` turned to the position of row kept[to].
void sum_keys(const Compute& compute, const KeyRows& keys, std::size_t head, const RopeTable& rope,
              std::span<const std::uint32_t> kept, std::span<const RowMerge> merges,
              std::span<float> sums);
/// As add_values.
void add_keys(const KeyRows& rows, std::size_t head, std::span<const float> own,
              std::span<const float> sums);

}  // namespace larder
