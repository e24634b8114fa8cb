// The rotation of K, V and queries under rotated formats (codec/rotated.h).
#pragma once

#include <cstddef>

namespace larder {

/// rows [n_rows, head_dim] *= H in place, H = H^T = H^-1: along the diagonal, orthonormal
/// Walsh-Hadamard matrices of the largest power of two that divides head_dim (80 has five of 16).
/// Scalar products of two rotated rows are those of the rows.
void hadamard_rotate(float* rows, std::size_t n_rows, std::size_t head_dim) noexcept;

}  // namespace larder
