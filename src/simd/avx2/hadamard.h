// Rotation of rows for the avx2 set. Contract in simd/simd.h.
#pragma once

#include <cstddef>

namespace larder::simd::avx2 {

void hadamard(float* rows, std::size_t n_rows, std::size_t head_dim);

}  // namespace larder::simd::avx2
