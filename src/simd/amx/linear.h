// Linear layers by AMX. Contracts of the functions: simd/simd.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::amx {

void tile_q8_matrix(const Q8Rows& rows, std::size_t n_rows, const Q8Matrix& matrix,
                    std::size_t first);
void packed_q8_0_matrix(const PackedRows& w, const Q8Matrix& x, float* out, std::size_t ld_out);
void packed_q4_0_matrix(const PackedRows& w, const Q8Matrix& x, float* out, std::size_t ld_out);

void tile_bf16_matrix(const float* x, std::size_t n_rows, const Bf16Matrix& matrix,
                      std::size_t first);
void packed_bf16_matrix(const PackedRows& w, const Bf16Matrix& x, float* out, std::size_t ld_out);

}  // namespace larder::simd::amx
