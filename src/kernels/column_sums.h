// How much attention cached rows get.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "tensor/buffer.h"

namespace larder {

/// Queries of one item whose attention counts.
struct ObservedRows {
  std::uint32_t item;           // of the step
  std::uint32_t first, n_rows;  // rows within the item
  float* sums;                  // of KV head h and stored row j: sums[h * stride + j]
  std::size_t stride;           // at least the rows that the last of these queries sees
};

struct Observation;

/// Memory that `add_column_sums` works in.
class ColumnScratch {
 public:
  ColumnScratch() = default;
  /// For items that see at most `max_rows` rows; 48 bytes per thread and row.
  ColumnScratch(unsigned n_threads, std::uint32_t max_rows, std::uint32_t head_dim);

 private:
  friend void add_column_sums(const Compute&, const AttentionShape&, const KvLayout&,
                              std::span<const AttentionItem>, const float*, const Observation&);
  std::size_t stride_ = 0, thread_floats_ = 0;
  Buffer<float> floats_;  // [n_threads, kRunQueries, stride_ + head_dim]
};

struct Observation {
  std::span<const ObservedRows> rows;
  ColumnScratch& scratch;
};

/// sums[h * stride + j] += the softmax weights on stored row j of the observed queries, in order of
/// row and then of the query heads of h. So a sum does not depend on how its queries were cut into
/// steps. `q` as for `attend`; layers without a window, raw blocks. Method: column sums of the
/// attention matrix, which flash attention never forms: the scores once more over all rows that a
/// query sees, then their softmax.
void add_column_sums(const Compute& compute, const AttentionShape& shape, const KvLayout& layout,
                     std::span<const AttentionItem> items, const float* q,
                     const Observation& observation);

}  // namespace larder
