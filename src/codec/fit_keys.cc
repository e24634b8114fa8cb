#include "codec/fit_keys.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/check.h"

namespace larder {
namespace {

constexpr std::size_t kMaxSample = std::size_t{1} << 18;  // elements
constexpr float kMinSpread = 1e-5F;
constexpr int kRounds = 4;  // of leaving out what loses most
constexpr int kMeansSteps = 80;

struct Weighted {
  float y, weight;
};

/// Prefix sums of the weights of elements in ascending order, and of their products with y.
struct Sums {
  std::vector<double> weights, products;  // [n + 1]

  explicit Sums(std::span<const Weighted> sorted) {
    weights.reserve(sorted.size() + 1);
    products.reserve(sorted.size() + 1);
    double weight = 0, product = 0;
    for (std::size_t i = 0;; ++i) {
      weights.push_back(weight);
      products.push_back(product);
      if (i == sorted.size()) break;
      weight += double{sorted[i].weight};
      product += double{sorted[i].weight} * double{sorted[i].y};
    }
  }
};

std::size_t n_below(std::span<const Weighted> sorted, double bound) {
  const auto at = std::partition_point(sorted.begin(), sorted.end(),
                                       [&](const Weighted& e) { return double{e.y} <= bound; });
  return static_cast<std::size_t>(at - sorted.begin());
}

/// k-means of elements in ascending order (Lloyd 1982): from the middles of k equal shares.
std::vector<float> means(std::span<const Weighted> sorted, std::size_t k) {
  const Sums sums(sorted);
  std::vector<float> values(k);
  for (std::size_t i = 0; i < k; ++i) values[i] = sorted[(2 * i + 1) * sorted.size() / (2 * k)].y;
  for (int step = 0; step < kMeansSteps; ++step) {
    std::size_t begin = 0;
    for (std::size_t i = 0; i < k; ++i) {
      const bool is_last = i + 1 == k;
      const double middle = is_last ? 0 : (double{values[i]} + double{values[i + 1]}) / 2;
      const std::size_t end = is_last ? sorted.size() : std::max(begin, n_below(sorted, middle));
      const double weight = sums.weights[end] - sums.weights[begin];
      if (weight > 0) {
        values[i] = static_cast<float>((sums.products[end] - sums.products[begin]) / weight);
      }
      begin = end;
    }
    std::sort(values.begin(), values.end());  // rounding could have changed places
  }
  return values;
}

float loss(std::span<const float> values, const Weighted& e) {
  const auto above = std::lower_bound(values.begin(), values.end(), e.y);
  float least = std::numeric_limits<float>::infinity();
  if (above != values.end()) least = *above - e.y;
  if (above != values.begin()) least = std::min(least, e.y - *(above - 1));
  return e.weight * least * least;
}

/// The same without the 1 % that loses most.
std::vector<float> means_of_most(std::span<const Weighted> sorted, std::size_t k) {
  std::vector<float> values = means(sorted, k), losses(sorted.size());
  const std::size_t n_apart = sorted.size() / 100;
  if (n_apart == 0) return values;
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t i = 0; i < sorted.size(); ++i) losses[i] = loss(values, sorted[i]);
    std::vector<float> order = losses;
    const auto last = order.begin() + static_cast<std::ptrdiff_t>(n_apart) - 1;
    std::nth_element(order.begin(), last, order.end(), std::greater<>());
    std::vector<Weighted> most;
    for (std::size_t i = 0; i < sorted.size(); ++i) {
      if (losses[i] <= *last) most.push_back(sorted[i]);
    }
    if (most.size() < k) return values;
    values = means(most, k);
  }
  return values;
}

}  // namespace

KeyFit::KeyFit(std::uint32_t n_heads, std::uint32_t head_dim, std::uint64_t stride)
    : width_(std::size_t{n_heads} * head_dim), stride_(stride), sums_(width_), squares_(width_) {
  LARDER_CHECK(width_ > 0 && stride > 0);
}

std::uint64_t KeyFit::stride_of(std::uint64_t n_rows, std::uint32_t n_heads,
                                std::uint32_t head_dim) noexcept {
  const std::uint64_t width = std::uint64_t{n_heads} * head_dim;
  const std::uint64_t most = std::max<std::uint64_t>(1, kMaxSample / width);
  return std::max<std::uint64_t>(1, (n_rows + most - 1) / most);
}

void KeyFit::add(std::span<const float> rows) {
  for (std::size_t at = 0; at + width_ <= rows.size(); at += width_) {
    const auto row = rows.subspan(at, width_);
    for (std::size_t c = 0; c < width_; ++c) {
      sums_[c] += double{row[c]};
      squares_[c] += double{row[c]} * double{row[c]};
    }
    const bool is_wanted = n_rows_++ % stride_ == 0;
    if (is_wanted && (sample_.empty() || sample_.size() + width_ <= kMaxSample)) {
      sample_.insert(sample_.end(), row.begin(), row.end());
    }
  }
}

KeyCalibration::Layer KeyFit::fit() const {
  LARDER_CHECK(n_rows_ > 0);
  KeyCalibration::Layer layer;
  const auto n = static_cast<double>(n_rows_);
  for (std::size_t c = 0; c < width_; ++c) {
    const double mean = sums_[c] / n, variance = squares_[c] / n - mean * mean;
    layer.mean.push_back(static_cast<float>(mean));
    layer.spread.push_back(
        std::max(static_cast<float>(std::sqrt(std::max(variance, 0.0))), kMinSpread));
  }
  std::vector<Weighted> sorted;
  sorted.reserve(sample_.size());
  for (std::size_t i = 0; i < sample_.size(); ++i) {
    const float spread = layer.spread[i % width_];
    sorted.push_back({(sample_[i] - layer.mean[i % width_]) / spread, spread * spread});
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const Weighted& a, const Weighted& b) { return a.y < b.y; });
  for (const std::uint32_t bits : {2U, 3U, 4U}) {
    const std::size_t k = std::size_t{1} << bits;
    layer.tables[table_index({bits, false})] = means(sorted, k);
    layer.tables[table_index({bits, true})] = means_of_most(sorted, k);
  }
  return layer;
}

}  // namespace larder
