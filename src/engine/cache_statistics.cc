#include "engine/cache_statistics.h"

#include <algorithm>

#include "base/check.h"

namespace larder {

CacheStatistics::CacheStatistics(const CacheShape& shape, const Wants& wants)
    : query_floats_(wants.query_floats) {
  for (const CacheLayer& layer : shape.layers) {
    if (wants.rows) stride_ = std::max<std::size_t>(stride_, layer.max_table_rows());
  }
  std::size_t n = 0;
  for (const CacheLayer& layer : shape.layers) {
    const bool drops = layer.drops() && layer.n_kv_heads > 0;
    first_.push_back(drops ? n : kNone);
    if (drops) n += query_floats_ + layer.n_kv_heads * stride_;
  }
  floats_.resize(n);
}

void CacheStatistics::clear() { std::fill(floats_.begin(), floats_.end(), 0.0F); }

void CacheStatistics::clear_from(std::uint32_t row) {
  LARDER_CHECK(of_rows() && row <= stride_);
  // Nothing but strides: what queries leave is counted by another kind of score.
  LARDER_CHECK(query_floats_ == 0);
  for (std::size_t begin = 0; begin < floats_.size(); begin += stride_) {
    std::fill_n(floats_.begin() + static_cast<std::ptrdiff_t>(begin + row), stride_ - row, 0.0F);
  }
}

void CacheStatistics::keep_rows(std::uint32_t layer, std::span<const std::uint32_t> kept,
                                std::uint32_t n_heads) {
  LARDER_CHECK(of_rows());
  const std::size_t n_kept = kept.size() / n_heads;
  for (std::uint32_t head = 0; head < n_heads; ++head) {
    float* sums = floats_.data() + first_[layer] + head * stride_;
    for (std::size_t i = 0; i < n_kept; ++i) sums[i] = sums[kept[head * n_kept + i]];
    std::fill(sums + n_kept, sums + stride_, 0.0F);
  }
}

}  // namespace larder
