#include "engine/cache_statistics.h"

#include <algorithm>

#include "base/check.h"

namespace larder {

CacheStatistics::CacheStatistics(const CacheShape& shape, const Wants& wants)
    : query_floats_(wants.query_floats) {
  for (const CacheLayer& layer : shape.layers) {
    if (wants.rows) stride_ = std::max<std::size_t>(stride_, layer.max_table_rows());
  }
  n_planes_ = wants.far_rows ? 2 : 1;
  stride_ *= n_planes_;
  std::size_t n = 0;
  for (const CacheLayer& layer : shape.layers) {
    const bool drops = layer.drops() && layer.n_kv_heads > 0;
    first_.push_back(drops ? n : kNone);
    if (drops) n += query_floats_ + layer.n_kv_heads * stride_;
  }
  floats_.resize(n);
}

std::size_t CacheStatistics::n_bytes(const CacheShape& shape, const Wants& wants) {
  std::size_t stride = 0, n = 0;
  for (const CacheLayer& layer : shape.layers) {
    if (wants.rows) stride = std::max<std::size_t>(stride, layer.max_table_rows());
  }
  for (const CacheLayer& layer : shape.layers) {
    if (!layer.drops() || layer.n_kv_heads == 0) continue;
    n += wants.query_floats + layer.n_kv_heads * stride * (wants.far_rows ? 2 : 1);
  }
  return n * sizeof(float);
}

void CacheStatistics::clear() { std::fill(floats_.begin(), floats_.end(), 0.0F); }

void CacheStatistics::clear_from(std::uint32_t row) {
  // Nothing but sums: what queries leave by themselves is for another kind of score.
  LARDER_CHECK(of_rows() && query_floats_ == 0);
  const std::size_t n_sums = stride_ / n_planes_;
  for (std::size_t begin = 0; begin < floats_.size(); begin += n_sums) {
    std::fill_n(floats_.begin() + static_cast<std::ptrdiff_t>(begin + row), n_sums - row, 0.0F);
  }
}

void CacheStatistics::keep_rows(std::uint32_t layer, std::span<const std::uint32_t> kept,
                                std::uint32_t n_heads) {
  LARDER_CHECK(of_rows());
  const std::size_t n_kept = kept.size() / n_heads;
  const std::size_t n_sums = stride_ / n_planes_;
  for (std::size_t plane = 0; plane < n_heads * n_planes_; ++plane) {
    const std::size_t head = plane / n_planes_;
    float* sums = floats_.data() + first_[layer] + plane * n_sums;
    for (std::size_t i = 0; i < n_kept; ++i) sums[i] = sums[kept[head * n_kept + i]];
    std::fill(sums + n_kept, sums + n_sums, 0.0F);
  }
}

}  // namespace larder
