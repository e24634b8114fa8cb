// Rows stored as codes for the scalar set: the reference of the others. Contracts in simd/simd.h,
// layout in simd/code_book.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::scalar {

void encode_codes_k(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part);
void encode_codes_v(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part);
void decode_codes_k(const CodeBook& book, const std::byte* part, BlockShape shape, std::byte* bf16);
void decode_codes_v(const CodeBook& book, const std::byte* part, BlockShape shape, std::byte* bf16);
void unpack_codes_k(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bytes);
void unpack_codes_v(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bytes);
void read_halves(const std::byte* halves, std::size_t n, float* out);

/// Row `row`, scaled, into `out` [head_dim].
void read_code_row_k(const CodeBook& book, const std::byte* part, std::uint32_t row,
                     BlockShape shape, float* out);
void read_code_row_v(const CodeBook& book, const std::byte* part, std::uint32_t row,
                     BlockShape shape, float* out);

}  // namespace larder::simd::scalar
