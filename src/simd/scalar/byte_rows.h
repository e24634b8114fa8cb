// Rows of bytes for the scalar set: the reference of the others. Contracts in simd/simd.h, layout
// and arithmetic in simd/byte_rows.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::scalar {

void encode_bytes_k(const std::byte* bf16, BlockShape shape, std::byte* part);
void encode_bytes_v(const std::byte* bf16, BlockShape shape, std::byte* part);
void decode_bytes_k(const std::byte* part, BlockShape shape, std::byte* bf16);
void decode_bytes_v(const std::byte* part, BlockShape shape, std::byte* bf16);
void run_scores_bytes(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores);
void run_accumulate_bytes(ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out);

}  // namespace larder::simd::scalar
