#include "kernels/query_moments.h"

namespace larder {

void add_query_moments(const Compute& compute, const QueryRows& queries,
                       std::span<const CountedRows> rows) {
  const std::size_t d = queries.head_dim;
  compute.pool.for_each(rows.size() * queries.n_heads, [&](std::size_t task, unsigned) {
    const CountedRows& counted = rows[task / queries.n_heads];
    const std::size_t head = task % queries.n_heads;
    float* sums = counted.sums + head * query_moment_floats(d);
    for (std::size_t row = counted.first; row < std::size_t{counted.first} + counted.n_rows;
         ++row) {
      const float* q = queries.q + (row * queries.n_heads + head) * d;
      sums[0] += 1.0F;
      compute.simd.axpy(1.0F, q, sums + 1, d);
      for (std::size_t i = 0; i < d; ++i) compute.simd.axpy(q[i], q, sums + 1 + d + i * d, d);
    }
  });
}

}  // namespace larder
