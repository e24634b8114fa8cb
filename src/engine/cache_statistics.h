// What the queries of a sequence have left for the policy that drops its rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kv/sequence_cache.h"

namespace larder {

/// Per layer that drops rows: what attention has added up on each stored row, per KV head; or sums
/// over the queries themselves. Sums of rows go with their rows when rows are dropped.
class CacheStatistics {
 public:
  struct Wants {
    bool rows = false;
    bool far_rows = false;         // and, of them, what queries far behind have added
    std::size_t query_floats = 0;  // of a layer; 0: none
  };
  CacheStatistics() = default;
  CacheStatistics(const CacheShape& shape, const Wants& wants);
  /// What such statistics take.
  static std::size_t n_bytes(const CacheShape& shape, const Wants& wants);
  std::size_t n_bytes() const noexcept { return floats_.size() * sizeof(float); }

  bool empty() const noexcept { return floats_.empty(); }
  bool of_rows() const noexcept { return stride_ != 0; }
  std::size_t stride() const noexcept { return stride_; }  // from KV head to KV head
  /// Where in these the sums of far queries begin; 0: there are none.
  std::size_t far() const noexcept { return n_planes_ == 2 ? stride_ / 2 : 0; }
  /// [n_kv_heads, stride()], or the floats of the queries; null for layers that drop no rows.
  float* layer(std::uint32_t layer) {
    return first_[layer] == kNone ? nullptr : floats_.data() + first_[layer];
  }
  std::span<const float> layer_queries(std::uint32_t layer) const {
    return std::span(floats_).subspan(first_[layer], query_floats_);
  }
  void clear();
  /// Of rows from `row` on, in all layers. REQUIRES: of_rows()
  void clear_from(std::uint32_t row);
  /// As SequenceCache::keep_rows.
  void keep_rows(std::uint32_t layer, std::span<const std::uint32_t> kept, std::uint32_t n_heads);

 private:
  static constexpr std::size_t kNone = SIZE_MAX;
  std::size_t stride_ = 0, query_floats_ = 0;
  std::size_t n_planes_ = 1;        // of a head's sums
  std::vector<std::size_t> first_;  // [n_layers]
  std::vector<float> floats_;
};

}  // namespace larder
