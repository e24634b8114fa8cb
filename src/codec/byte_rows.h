// What storage formats of bytes with a scale per row (simd/byte_rows.h) have in common.
#pragma once

#include <fmt/format.h>

#include <cstring>
#include <string>

#include "codec/kv_codec.h"
#include "simd/byte_rows.h"
#include "tensor/half.h"

namespace larder {

struct ByteRows {
  using Place = std::size_t (*)(std::size_t token, std::size_t channel, BlockShape shape);

  static std::string refusal(BlockShape shape) {
    if (shape.head_dim % 16 == 0) return "";
    return fmt::format("head_dim {} is not a multiple of 16", shape.head_dim);
  }

  template <Place kPlace>
  static void read(const std::byte* part, std::uint32_t row, BlockShape shape, float* out) {
    std::uint16_t half;
    std::memcpy(&half, part + simd::bytes_of_rows(shape) + 2 * std::size_t{row}, sizeof(half));
    const float scale = f16_to_f32(half);
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
      out[c] = scale * static_cast<float>(static_cast<std::int8_t>(part[kPlace(row, c, shape)]));
    }
  }

  template <Place kPlace>
  static void move(const std::byte* from, std::uint32_t from_row, BlockShape shape, std::byte* to,
                   std::uint32_t to_row) {
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
      to[kPlace(to_row, c, shape)] = from[kPlace(from_row, c, shape)];
    }
    const std::size_t scales = simd::bytes_of_rows(shape);
    std::memmove(to + scales + 2 * std::size_t{to_row}, from + scales + 2 * std::size_t{from_row},
                 2);
  }

  static constexpr KvCodec codec(KvFormat format, std::string_view name, bool rotates) {
    KvCodec codec{};
    codec.format = format;
    codec.raw = KvFormat::bf16;
    codec.name = name;
    codec.rotates = rotates;
    codec.k_bytes = codec.v_bytes = simd::byte_part_bytes;
    codec.refusal_k = codec.refusal_v = refusal;
    codec.read_k = read<simd::byte_at_k>;
    codec.read_v = read<simd::byte_at_v>;
    codec.move_k = move<simd::byte_at_k>;
    codec.move_v = move<simd::byte_at_v>;
    codec.encode_k = [](const simd::Table& table) { return table.encode_bytes_k; };
    codec.encode_v = [](const simd::Table& table) { return table.encode_bytes_v; };
    codec.decode_k = [](const simd::Table& table) { return table.decode_bytes_k; };
    codec.decode_v = [](const simd::Table& table) { return table.decode_bytes_v; };
    codec.row_scales = simd::bytes_of_rows;
    codec.run_scores = [](const simd::Table& table) { return table.run_scores_bytes; };
    codec.run_accumulate = [](const simd::Table& table) { return table.run_accumulate_bytes; };
    return codec;
  }
};

}  // namespace larder
