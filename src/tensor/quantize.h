// The storage formats of weights: rows of floats to bytes and back, byte-compatible with GGUF.
#pragma once

#include <cstddef>

#include "tensor/dtype.h"

namespace larder {

/// REQUIRES: n is a multiple of the type's block_elems.
void decode_row(DType dtype, const std::byte* in, std::size_t n, float* out);
/// Rounds to the nearest code; block scales are chosen to minimise the (weighted) squared error.
/// `importance` [n] or null: weight of each element's error.
void encode_row(DType dtype, const float* in, std::size_t n, std::byte* out,
                const float* importance = nullptr);

}  // namespace larder
