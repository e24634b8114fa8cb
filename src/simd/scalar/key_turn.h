// Keys as they were before rope, for the scalar set: the reference of the others. Contracts in
// simd/simd.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::scalar {

void turn_keys(const KeyTurn& turn, BlockShape shape, std::byte* bf16);
void turn_back_keys(const KeyTurn& turn, const std::byte* bf16, BlockShape shape, std::byte* y);
void pack_codes_k(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part);

}  // namespace larder::simd::scalar
