// Rotary position embedding (Su et al. 2021, arXiv:2104.09864) with the scalings of the field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace larder {

/// Frequencies and amplitude of one layer kind; made once per model by model/rope_table.h.
struct RopeTable {
  std::vector<float> inv_freq;  // [n_rot / 2]: angle per position
  float amplitude = 1.0F;       // multiplies sin and cos (YaRN, long rope)
  bool adjacent = false;        // pairs (2i, 2i+1) instead of (i, i + n_rot/2)
};

/// Sines and cosines of the rows of a step: computed once per step and table, used by all layers
/// and heads. cos, sin: [n_rows, n_rot / 2].
void rope_angles(const RopeTable& table, std::span<const std::uint32_t> positions,
                 std::span<float> cos, std::span<float> sin);
/// Rotates in place x [n_rows, n_heads, head_dim] (row stride `ld`); channels past n_rot are
/// untouched.
void rope_rotate(const RopeTable& table, std::span<const float> cos, std::span<const float> sin,
                 float* x, std::size_t n_rows, std::size_t ld, std::uint32_t n_heads,
                 std::uint32_t head_dim);

}  // namespace larder
