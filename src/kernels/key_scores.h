// What cached rows are worth, told from their keys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.h"

namespace larder {

/// And values, of one layer of a sequence. Where it seals, sealed rows are what they decode to,
/// those behind the blocks of KvRows::blocks stand in KvRows::open.
struct KeyRows {
  const KvLayout& layout;
  BlockShape shape;
  std::span<const KvRows> heads;  // [n_kv_heads]
  std::uint32_t n_rows;           // from row 0 on
};

/// Norms below it count as this where keys are compared by direction.
inline constexpr float kLeastNorm = 1e-12F;

/// Row `row` of a head as floats [head_dim].
void read_key(const KeyRows& keys, std::size_t head, std::uint32_t row, float* out);
void read_value(const KeyRows& keys, std::size_t head, std::uint32_t row, float* out);

/// out [n_kv_heads, n_rows] = -|k|. Method: Devoto et al. 2024 (arXiv:2406.11430).
void key_norm_scores(const Compute& compute, const KeyRows& keys, std::span<float> out);

/// out [n_kv_heads, n_rows] = -cos(k, mean over all rows of k / |k|). Method: KeyDiff, Park et al.
/// 2025 (arXiv:2504.15364).
void key_spread_scores(const Compute& compute, const KeyRows& keys, std::span<float> out);

}  // namespace larder
