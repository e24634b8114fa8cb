// Rows stored as codes: each element is the index of a value in a table, or the value itself, each
// row has a scale.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace larder::simd {

/// How the scale of a row is found.
enum class CodeFit : std::uint8_t {
  largest,  // the largest magnitude of the row becomes the largest of the table
  range,    // the smallest and the largest element become the smallest and largest value, of V in
            // each row, of K in each channel over the rows of the block (KIVI, arXiv:2402.02750)
  norm,  // for tables made for N(0, 1): the row is divided by its root mean square, and the scale
         // makes the decoded row as long as the row was
};

/// A table of values that are exact in bf16, and how rows become codes of it. A table of 8 bits is
/// that of OCP e4m3. Of 8 bits with CodeFit::range there is no table: a code is its own value, 0 to
/// 255 (`codes_are_values`), that of x the nearest to it, the lower of two. A table of fewer bits
/// whose rows have scales has integers of -127 to 127 (`codes_are_bytes`): attention multiplies
/// them as the bytes of simd/byte_rows.h.
///
/// Layout of a part. Codes stand in *planes*: 32 codes of the 16 tokens of a K tile and two
/// channels, or of two tokens and 16 channels of V, in the order in which the bf16 layouts keep
/// their 32 values (codec/kv_codec.h), so that a decoded plane is an operand of VDPBF16PS.
///   K [n / 16 tiles][d / 2 planes], V [d / 16][n / 2 planes], codes packed as below;
///   then [n] scales, f16. The decoded row is scale * values. With CodeFit::range: [g] scales and
///   [g] zeros, f16, g = d of K, n of V; an element is zero + scale * value.
/// Planes are packed in groups of `group_planes(bits)`. Code j of each plane of a group is in the
/// 16-bit words j of the group's `n_words(bits)` vectors of 64 bytes:
///   2, 4 bits: plane i at bit i * bits;
///   3 bits: planes 5 k + i in word k at bit 3 i, plane 15 in the top bits of words 0, 1, 2;
///   5 bits: planes 3 k + i in word k at bit 5 i, plane 15 in the top bits of words 0 to 4;
///   8 bits: plane i (0 or 1) in byte 16 * (j / 8) + 8 i + j % 8: unpacking two bytes of table to
///           words then gives plane 0 and plane 1.
struct CodeBook {
  std::uint32_t bits;  // 2, 3, 4, 5 or 8
  CodeFit fit;
  /// bf16 in ascending order: of codes 0 to 2^bits - 1, repeated to fill 128 entries; of 8 bits the
  /// magnitudes of codes 0 to 127, and bit 7 of a code is the sign.
  alignas(64) std::uint16_t values[128];
  /// Midpoints between neighbouring values (of 8 bits, magnitudes): code is how many are below x,
  /// with CodeFit::norm an element divided by the root mean square of its row.
  float bounds[127];
};

/// Codes without a table: `values` and `bounds` are not looked at.
[[gnu::always_inline]] constexpr bool codes_are_values(const CodeBook& book) noexcept {
  return book.bits == 8 && book.fit == CodeFit::range;
}

/// Codes stand for bytes of a byte part: [n / 4] or [d / 4] *lines* of 16 lanes and four bytes, of
/// which two neighbouring planes hold one.
[[gnu::always_inline]] constexpr bool codes_are_bytes(const CodeBook& book) noexcept {
  return book.bits < 8 && book.fit != CodeFit::range;
}

/// What code i of such a table stands for; of any i below 128, whose bits above are ignored.
[[gnu::always_inline]] constexpr std::int8_t byte_of(const CodeBook& book, std::size_t i) noexcept {
  return static_cast<std::int8_t>(std::bit_cast<float>(std::uint32_t{book.values[i]} << 16));
}

constexpr std::size_t group_planes(std::uint32_t bits) {
  switch (bits) {
    case 2:
      return 8;
    case 4:
      return 4;
    case 8:
      return 2;
    default:
      return 16;
  }
}
/// Vectors of 64 bytes of a group.
constexpr std::size_t n_words(std::uint32_t bits) { return group_planes(bits) * bits / 16; }
static_assert(n_words(2) == 1 && n_words(3) == 3 && n_words(5) == 5 && n_words(8) == 1);

}  // namespace larder::simd
