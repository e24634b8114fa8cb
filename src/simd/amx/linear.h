// AMX-TILE, -INT8 and -BF16 beside all that avx512/ may use. Contracts of the functions:
// simd/simd.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::amx {

void tile_q8_matrix(const Q8Rows& rows, std::size_t n_rows, const Q8Matrix& matrix,
                    std::size_t first);
void packed_q8_0_matrix(const PackedRows& w, const Q8Matrix& x, float* out, std::size_t ld_out);
void packed_q4_0_matrix(const PackedRows& w, const Q8Matrix& x, float* out, std::size_t ld_out);

}  // namespace larder::simd::amx
