// Means and covariances of queries, as sums over them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/compute.h"

namespace larder {

/// Floats of one query head: how many queries, their sum [d], the sum of their products [d, d].
constexpr std::size_t query_moment_floats(std::size_t head_dim) noexcept {
  return 1 + head_dim + head_dim * head_dim;
}

struct QueryRows {
  const float* q;  // [n_rows, n_heads, head_dim] of the step, not rotated
  std::uint32_t n_heads, head_dim;
};
struct CountedRows {
  std::uint32_t first, n_rows;  // of the step
  float* sums;                  // [n_heads, query_moment_floats(head_dim)]
};

/// Adds the rows to their sums, in order: a sum does not depend on how its rows were cut into
/// steps.
void add_query_moments(const Compute& compute, const QueryRows& queries,
                       std::span<const CountedRows> rows);

}  // namespace larder
