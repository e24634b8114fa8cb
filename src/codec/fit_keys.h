// Calibration of keys before rope: from keys of a text to means, spreads and tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "codec/key_calibration.h"

namespace larder {

/// Keys of one layer. Means and spreads are over all rows that are added; tables over every
/// `stride`-th row, 2^18 elements at most, for which room is taken as they come.
class KeyFit {
 public:
  KeyFit(std::uint32_t n_heads, std::uint32_t head_dim, std::uint64_t stride);
  /// The stride at which `n_rows` rows fill a sample.
  static std::uint64_t stride_of(std::uint64_t n_rows, std::uint32_t n_heads,
                                 std::uint32_t head_dim) noexcept;

  /// rows [n, n_heads, head_dim], finite.
  void add(std::span<const float> rows);
  /// The values of a table are the k means of y = (x - mean) / spread, where an error counts by
  /// what it is in x: plain squares, not weighted by the loss function's Fisher information as
  /// KVQuant's (arXiv:2401.18079), which takes gradients. Tables for formats that keep 1 % apart
  /// leave out the 1 % that loses most. REQUIRES: at least one row
  KeyCalibration::Layer fit() const;

 private:
  std::size_t width_;  // n_heads * head_dim
  std::uint64_t stride_, n_rows_ = 0;
  std::vector<double> sums_, squares_;  // [width_]
  std::vector<float> sample_;           // [n, width_]
};

}  // namespace larder
