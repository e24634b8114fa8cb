#include "kernels/expected_attention.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/query_moments.h"

namespace larder {
namespace {

constexpr std::size_t kSomeRows = 64;  // that are multiplied at once: they stay near

// Mean and covariance of one query head where its queries will stand.
class Future {
 public:
  Future(const ExpectedQueries& queries, std::size_t head, std::size_t head_dim)
      : queries_(queries), d_(head_dim), mean_(d_), covariance_(d_ * d_) {
    const float* sums = queries.sums.data() + head * query_moment_floats(d_);
    const float n = std::max(sums[0], 1.0F);
    for (std::size_t i = 0; i < d_; ++i) mean_[i] = sums[1 + i] / n;
    for (std::size_t i = 0; i < d_; ++i) {
      for (std::size_t j = 0; j < d_; ++j) {
        covariance_[i * d_ + j] = sums[1 + d_ + i * d_ + j] / n - mean_[i] * mean_[j];
      }
    }
    turn(mean_.data());
    turn_rows();
    transpose();
    turn_rows();
  }

  /// out [n]: the logarithms of what the keys [n, head_dim] may expect, up to one number for all of
  /// them. `products` [n, head_dim] is overwritten.
  void log_attention(const simd::Table& simd, const float* keys, std::size_t n, float* products,
                     float* out) const {
    const simd::WeightRows rows{reinterpret_cast<const std::byte*>(covariance_.data()),
                                d_ * sizeof(float), d_, d_};
    simd.linear_f32(rows, keys, n, products, d_);
    const float scale = queries_.scale, half = 0.5F * scale * scale;
    for (std::size_t i = 0; i < n; ++i) {
      const float* key = keys + i * d_;
      out[i] =
          scale * simd.dot(mean_.data(), key, d_) + half * simd.dot(products + i * d_, key, d_);
    }
  }

 private:
  void turn(float* x) const {
    rope_rotate(queries_.future.table, queries_.future.cos, queries_.future.sin, x, 1, d_, 1,
                static_cast<std::uint32_t>(d_));
  }
  void turn_rows() {
    for (std::size_t i = 0; i < d_; ++i) turn(covariance_.data() + i * d_);
  }
  void transpose() {
    for (std::size_t i = 0; i < d_; ++i) {
      for (std::size_t j = 0; j < i; ++j)
        std::swap(covariance_[i * d_ + j], covariance_[j * d_ + i]);
    }
  }

  const ExpectedQueries& queries_;
  std::size_t d_;
  std::vector<float> mean_, covariance_;
};

}  // namespace

MeanRotation mean_rotation(const RopeTable& table, std::uint32_t first, std::uint32_t n) {
  const std::size_t n_half = table.inv_freq.size();
  MeanRotation mean{table, std::vector<float>(n_half), std::vector<float>(n_half)};
  std::vector<float> cos(n_half), sin(n_half);
  for (std::uint32_t position = first; position < first + n; ++position) {
    rope_angles(table, std::span(&position, 1), cos, sin);
    for (std::size_t i = 0; i < n_half; ++i) {
      mean.cos[i] += cos[i] / static_cast<float>(n);
      mean.sin[i] += sin[i] / static_cast<float>(n);
    }
  }
  return mean;
}

void expected_attention_scores(const Compute& compute, const KeyRows& keys,
                               const ExpectedQueries& queries, std::span<float> out) {
  const std::size_t n_rows = keys.n_rows, d = keys.shape.head_dim;
  LARDER_CHECK(out.size() == keys.heads.size() * n_rows);
  const std::size_t group = queries.n_heads / keys.heads.size();
  compute.pool.for_each(keys.heads.size(), [&](std::size_t head, unsigned) {
    std::vector<Future> futures;
    for (std::size_t g = 0; g < group; ++g) futures.emplace_back(queries, head * group + g, d);
    std::vector<float> of_queries(group * n_rows), some(kSomeRows * d), products(kSomeRows * d);
    for (std::size_t first = 0; first < n_rows; first += kSomeRows) {
      const std::size_t n = std::min(kSomeRows, n_rows - first);
      for (std::size_t i = 0; i < n; ++i) {
        read_key(keys, head, static_cast<std::uint32_t>(first + i), some.data() + i * d);
      }
      if (keys.layout.k->rotates) {  // back to where queries are counted
        compute.simd.hadamard(some.data(), n, d);
      }
      for (std::size_t g = 0; g < group; ++g) {
        futures[g].log_attention(compute.simd, some.data(), n, products.data(),
                                 of_queries.data() + g * n_rows + first);
      }
    }
    float* scores = out.data() + head * n_rows;
    std::fill_n(scores, n_rows, 0.0F);
    for (std::size_t g = 0; g < group; ++g) {
      float* of_query = of_queries.data() + g * n_rows;
      const float max = compute.simd.max(of_query, n_rows);
      const float sum = compute.simd.exp_shift_sum(of_query, max, n_rows, {});
      compute.simd.axpy(1.0F / (sum * static_cast<float>(group)), of_query, scores, n_rows);
    }
    for (std::size_t i = 0; i < n_rows; ++i) {
      float* const row = some.data();
      read_value(keys, head, static_cast<std::uint32_t>(i), row);
      scores[i] *= std::sqrt(compute.simd.sum_squares(row, d));
    }
  });
}

}  // namespace larder
