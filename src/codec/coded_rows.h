// What storage formats of codes (simd/code_book.h) have in common.
#pragma once

#include <fmt/format.h>

#include <string>

#include "codec/kv_codec.h"
#include "codec/move_codes.h"
#include "simd/scalar/codes.h"
#include "tensor/half.h"

namespace larder {

/// What codes_are_bytes says of a table's values.
constexpr bool has_integers(const simd::CodeBook& book) {
  for (std::uint32_t code = 0; code < 1U << book.bits; ++code) {
    const float value = bf16_to_f32(book.values[code]);
    if (value < -127 || value > 127 || value != static_cast<float>(static_cast<int>(value))) {
      return false;
    }
  }
  return true;
}

template <const simd::CodeBook& kBook>
struct CodedRows {
  static_assert(!simd::codes_are_bytes(kBook) || has_integers(kBook));
  static_assert(kBook.fit != simd::CodeFit::range || kBook.bits == 2 || kBook.bits == 4 ||
                kBook.bits == 8);
  // What sets take for e4m3 is: its largest value, 448.
  static_assert(kBook.bits < 8 || simd::codes_are_values(kBook) || kBook.values[126] == 0x43e0);

  static std::size_t k_bytes(BlockShape shape) { return simd::k_part_bytes(kBook, shape); }
  static std::size_t v_bytes(BlockShape shape) { return simd::v_part_bytes(kBook, shape); }

  static std::string refusal_k(BlockShape shape) {
    constexpr std::size_t kChannels =
        2 * simd::group_planes(kBook.bits) < 16 ? 16 : 2 * simd::group_planes(kBook.bits);
    if (shape.head_dim % kChannels == 0) return "";
    return fmt::format("head_dim {} is not a multiple of {}", shape.head_dim, kChannels);
  }
  static std::string refusal_v(BlockShape shape) {
    constexpr std::size_t kTokens = 2 * simd::group_planes(kBook.bits);
    if (shape.head_dim % 16 != 0) {
      return fmt::format("head_dim {} is not a multiple of 16", shape.head_dim);
    }
    if (shape.block_tokens % kTokens == 0) return "";
    return fmt::format("blocks of {} tokens are smaller than {}", shape.block_tokens, kTokens);
  }

  static void read_k(const std::byte* k, std::uint32_t row, BlockShape shape, float* out) {
    simd::scalar::read_code_row_k(kBook, k, row, shape, out);
  }
  static void read_v(const std::byte* v, std::uint32_t row, BlockShape shape, float* out) {
    simd::scalar::read_code_row_v(kBook, v, row, shape, out);
  }

  static void move_k(const std::byte* from, std::uint32_t from_row, BlockShape shape, std::byte* to,
                     std::uint32_t to_row) {
    move_codes_k(kBook, from, from_row, shape, to, to_row);
  }
  static void move_v(const std::byte* from, std::uint32_t from_row, BlockShape shape, std::byte* to,
                     std::uint32_t to_row) {
    move_codes_v(kBook, from, from_row, shape, to, to_row);
  }

  static constexpr KvCodec codec(KvFormat format, std::string_view name, bool rotates) {
    KvCodec codec{};
    codec.format = format;
    codec.raw = KvFormat::bf16;
    codec.name = name;
    codec.rotates = rotates;
    codec.k_bytes = k_bytes;
    codec.v_bytes = v_bytes;
    codec.refusal_k = refusal_k;
    codec.refusal_v = refusal_v;
    codec.read_k = read_k;
    codec.read_v = read_v;
    codec.codes = &kBook;
    if (kBook.fit != simd::CodeFit::range) {
      codec.row_scales = [](BlockShape shape) { return simd::code_bytes(kBook, shape); };
      codec.move_k = move_k;
      codec.move_v = move_v;
    }
    return codec;
  }
};

}  // namespace larder
