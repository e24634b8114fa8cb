#include "kernels/expected_attention.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/query_moments.h"

namespace larder {
namespace {

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

  float log_attention(const simd::Table& simd, const float* key) const {
    const float scale = queries_.scale;
    float product = 0;
    for (std::size_t i = 0; i < d_; ++i) {
      product += key[i] * simd.dot(covariance_.data() + i * d_, key, d_);
    }
    return scale * simd.dot(mean_.data(), key, d_) + 0.5F * scale * scale * product;
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
    float* scores = out.data() + head * n_rows;
    std::fill_n(scores, n_rows, 0.0F);
    std::vector<float> of_query(n_rows), row(d);
    for (std::size_t g = 0; g < group; ++g) {
      const Future future(queries, head * group + g, d);
      for (std::uint32_t i = 0; i < n_rows; ++i) {
        read_key(keys, head, i, row.data());
        if (keys.layout.k->rotates) {  // back to where queries are counted
          compute.simd.hadamard(row.data(), 1, d);
        }
        of_query[i] = future.log_attention(compute.simd, row.data());
      }
      const float max = compute.simd.max(of_query.data(), n_rows);
      const float sum = compute.simd.exp_shift_sum(of_query.data(), max, n_rows);
      compute.simd.axpy(1.0F / (sum * static_cast<float>(group)), of_query.data(), scores, n_rows);
    }
    for (std::uint32_t i = 0; i < n_rows; ++i) {
      read_value(keys, head, i, row.data());
      scores[i] *= std::sqrt(compute.simd.sum_squares(row.data(), d));
    }
  });
}

}  // namespace larder
