// Blocks of keys as they were before rope: their bytes.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "codec/kv_codec.h"

namespace larder {

/// Of a block of one KV head: what the space for encoding it is made for.
inline constexpr std::size_t kMaxKeyElements = 16384;

/// What is known of a layer's keys before they come: y = (x - mean) / spread of a key x before rope
/// is the value that is stored.
struct KeyTable {
  simd::CodeBook book;                       // of y; `fit` is not looked at
  std::vector<float> mean, spread, inverse;  // [n_kv_heads, head_dim]; inverse = 1 / spread
};

/// `values` [2^bits] ascending, rounded to bf16.
simd::CodeBook make_key_book(std::uint32_t bits, std::span<const float> values);

/// How the keys of a block become bytes and come back.
///
/// Layout of a part: the codes of y, packed as simd/code_book.h has them, without scales; then,
/// where 1 % is kept apart, [n_apart] places, u16, and [n_apart] values of y, bf16. A place is that
/// of an element in a bf16 K part (codec/kv_codec.h), counted in elements, in ascending order; its
/// code is not looked at.
struct KeyCoding {
  const BeforeRope& format;
  const simd::CodeBook& book;
  simd::KeyTurn turn;
};
/// Elements that are kept apart: 1 % of them, rounded down.
constexpr std::size_t n_apart(const BeforeRope& format, BlockShape shape) noexcept {
  return format.keeps_apart ? std::size_t{shape.block_tokens} * shape.head_dim / 100 : 0;
}
std::size_t key_part_bytes(const BeforeRope& format, BlockShape shape) noexcept;

/// A full bf16 K part, with its rotation, becomes a part. Those are kept apart whose codes lose
/// most of the key: their number is the same in each block, so that blocks have one size. NaN
/// counts as zero, what is beyond +-65504 as that; both stay in their row.
/// REQUIRES: block_tokens * head_dim <= kMaxKeyElements
void encode_keys(const simd::Table& simd, const KeyCoding& coding, const std::byte* bf16,
                 BlockShape shape, std::byte* part);
/// A part becomes a bf16 K part, turned to its positions and rounded.
void decode_keys(const simd::Table& simd, const KeyCoding& coding, const std::byte* part,
                 BlockShape shape, std::byte* bf16);

}  // namespace larder
