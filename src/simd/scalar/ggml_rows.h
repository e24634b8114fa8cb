// Blocks of rows as ggml stores them, for the scalar set. Contracts in simd/simd.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::scalar {

void encode_q8_0_k(const std::byte* bf16, BlockShape shape, std::byte* part);
void encode_q8_0_v(const std::byte* bf16, BlockShape shape, std::byte* part);
void encode_q4_0_k(const std::byte* bf16, BlockShape shape, std::byte* part);
void encode_q4_0_v(const std::byte* bf16, BlockShape shape, std::byte* part);
void decode_q8_0_k(const std::byte* part, BlockShape shape, std::byte* bf16);
void decode_q8_0_v(const std::byte* part, BlockShape shape, std::byte* bf16);
void decode_q4_0_k(const std::byte* part, BlockShape shape, std::byte* bf16);
void decode_q4_0_v(const std::byte* part, BlockShape shape, std::byte* bf16);

}  // namespace larder::simd::scalar
