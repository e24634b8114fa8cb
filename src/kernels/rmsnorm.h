// Root-mean-square norm (Zhang & Sennrich 2019, arXiv:1910.07467).
#pragma once

#include <cstddef>

#include "simd/simd.h"

namespace larder {

/// out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]; x and out [n], may be the same memory.
void rmsnorm(const simd::Table& simd, const float* x, const float* weight, float eps, std::size_t n,
             float* out);

}  // namespace larder
