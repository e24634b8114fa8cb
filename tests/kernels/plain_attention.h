// Attention of one query head from the formula, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/cached_rows.h"

namespace larder {

struct PlainQuery {
  const float* q;       // [head_dim], scaled
  const float* sink_q;  // the same for the first `n_sinks` rows
  std::uint32_t n_sinks;
  std::size_t sink_stride = 0;  // from one of these rows' query to the next; 0: they share one
};

/// softmax(scores) V over the first `n_seen` rows of a KV head.
inline std::vector<double> attend_plainly(const CachedRows& cache, std::uint32_t kv_head,
                                          std::uint32_t n_seen, const PlainQuery& query) {
  std::vector<double> scores(n_seen), out;
  double max = -1e300, sum = 0;
  for (std::uint32_t row = 0; row < n_seen; ++row) {
    const std::vector<float> key = cache.key(kv_head, row);
    const float* of = row < query.n_sinks ? query.sink_q + row * query.sink_stride : query.q;
    for (std::size_t c = 0; c < key.size(); ++c) scores[row] += double{of[c]} * double{key[c]};
    max = std::max(max, scores[row]);
  }
  for (double& s : scores) sum += s = std::exp(s - max);
  for (std::uint32_t row = 0; row < n_seen; ++row) {
    const std::vector<float> value = cache.value(kv_head, row);
    out.resize(value.size());
    for (std::size_t c = 0; c < value.size(); ++c) {
      out[c] += scores[row] / sum * double{value[c]};
    }
  }
  return out;
}

}  // namespace larder
