// Keys as they were before rope for the avx512 set; contracts in simd/simd.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::avx512 {

void turn_keys(const KeyTurn& turn, BlockShape shape, std::byte* bf16);
void turn_back_keys(const KeyTurn& turn, const std::byte* bf16, BlockShape shape, std::byte* y);
void pack_codes_k(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part);

}  // namespace larder::simd::avx512
