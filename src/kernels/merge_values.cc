#include "kernels/merge_values.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace larder {
namespace {

constexpr float kTiny = 1e-12F;  // norms below count as this

/// Unit vectors of keys.
void read_direction(const Compute& compute, const KeyRows& keys, std::size_t head,
                    std::uint32_t row, float* out) {
  read_key(keys, head, row, out);
  const std::size_t d = keys.shape.head_dim;
  const float norm = std::max(std::sqrt(compute.simd.sum_squares(out, d)), kTiny);
  compute.simd.scale(1.0F / norm, out, d);
}

}  // namespace

void likest_keys(const Compute& compute, const KeyRows& keys, std::size_t head,
                 std::span<const std::uint32_t> kept, std::span<std::uint32_t> nearest,
                 std::span<float> cosines) {
  const std::size_t d = keys.shape.head_dim;
  LARDER_CHECK(!kept.empty() && nearest.size() == keys.n_rows - kept.size() &&
               cosines.size() == nearest.size());
  std::vector<std::uint32_t> dropped;
  for (std::uint32_t row = 0, next = 0; row < keys.n_rows; ++row) {
    const bool stays = next < kept.size() && kept[next] == row;
    next += stays ? 1 : 0;
    if (!stays) dropped.push_back(row);
  }
  std::vector<float> directions(kept.size() * d);
  for (std::size_t t = 0; t < kept.size(); ++t) {
    read_direction(compute, keys, head, kept[t], directions.data() + t * d);
  }
  compute.pool.for_each(dropped.size(), [&](std::size_t i, unsigned) {
    std::vector<float> key(d);
    read_direction(compute, keys, head, dropped[i], key.data());
    cosines[i] = -2;
    for (std::size_t t = 0; t < kept.size(); ++t) {
      const float cosine = compute.simd.dot(key.data(), directions.data() + t * d, d);
      if (cosine <= cosines[i]) continue;
      cosines[i] = cosine;
      nearest[i] = static_cast<std::uint32_t>(t);
    }
  });
}

void sum_values(const Compute& compute, const KeyRows& rows, std::size_t head,
                std::span<const RowMerge> merges, std::span<float> sums) {
  const std::size_t d = rows.shape.head_dim;
  std::fill(sums.begin(), sums.end(), 0.0F);
  std::vector<float> value(d);
  std::uint32_t read = rows.n_rows;  // none
  for (const RowMerge& merge : merges) {
    if (merge.from != read) read_value(rows, head, merge.from, value.data());
    read = merge.from;
    compute.simd.axpy(merge.weight, value.data(), sums.data() + merge.to * d, d);
  }
}

void add_values(const KeyRows& rows, std::size_t head, std::span<const float> own,
                std::span<const float> sums) {
  const std::size_t d = rows.shape.head_dim;
  LARDER_CHECK(!rows.layout.seals() && sums.size() == own.size() * d);
  std::vector<float> value(d);
  for (std::uint32_t t = 0; t < own.size(); ++t) {
    const auto sum = sums.subspan(t * d, d);
    const bool has_none = std::all_of(sum.begin(), sum.end(), [](float x) { return x == 0; });
    if (own[t] == 1 && has_none) continue;
    read_value(rows, head, t, value.data());
    for (std::size_t c = 0; c < d; ++c) value[c] = own[t] * value[c] + sum[c];
    const BlockId block = rows.heads[head].blocks[t / rows.shape.block_tokens];
    rows.layout.v->append_v(value.data(), t % rows.shape.block_tokens, rows.shape,
                            rows.layout.pool + to_offset(block) + rows.layout.v_offset);
  }
}

}  // namespace larder
