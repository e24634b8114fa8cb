// Single rows of parts of codes, moved as they are.
#pragma once

#include <cstdint>

#include "codec/kv_codec.h"

namespace larder {

/// Copies the codes and the scale of row `from_row` of a part to row `to_row` of another one, or of
/// the same; other rows keep their bytes. Layout: simd/code_book.h. REQUIRES: each row has a scale
/// of its own, not CodeFit::range
void move_codes_k(const simd::CodeBook& book, const std::byte* from, std::uint32_t from_row,
                  BlockShape shape, std::byte* to, std::uint32_t to_row);
void move_codes_v(const simd::CodeBook& book, const std::byte* from, std::uint32_t from_row,
                  BlockShape shape, std::byte* to, std::uint32_t to_row);

}  // namespace larder
