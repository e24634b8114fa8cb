// Rotation of rows for the scalar set. Contract in simd/simd.h.
#pragma once

#include <cstddef>

namespace larder::simd::scalar {

void hadamard(float* rows, std::size_t n_rows, std::size_t head_dim);

}  // namespace larder::simd::scalar
