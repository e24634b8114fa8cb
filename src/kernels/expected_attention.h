// How much attention rows may expect from queries to come.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/key_scores.h"
#include "kernels/rope.h"

namespace larder {

/// The mean of the rotations of `n` positions from `first` on.
struct MeanRotation {
  RopeTable table;
  std::vector<float> cos, sin;  // [n_rot / 2]
};
MeanRotation mean_rotation(const RopeTable& table, std::uint32_t first, std::uint32_t n);

struct ExpectedQueries {
  std::uint32_t n_heads;
  std::span<const float> sums;  // [n_heads, query_moment_floats(head_dim)], not rotated
  const MeanRotation& future;   // where they will stand
  float scale;                  // of scores
};

/// out [n_kv_heads, n_rows]: softmax over the rows of k.m' s + k S' k s^2 / 2, where m' and S' are
/// mean and covariance of a head's queries turned by the mean rotation, the mean over the query
/// heads of the KV head, times |v|. Method: Devoto et al. 2025 (arXiv:2510.00636), epsilon 0.
void expected_attention_scores(const Compute& compute, const KeyRows& keys,
                               const ExpectedQueries& queries, std::span<float> out);

}  // namespace larder
