// Products of queries with the bounds of blocks, for the avx512 set. Contract in simd/simd.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::avx512 {

void bound_scores(const float* q, std::size_t n_q, const KvRun& bounds, std::size_t n, float* out);

}  // namespace larder::simd::avx512
