#include "codec/ggml_rows.h"

#include <fmt/format.h>

#include <cstring>

#include "tensor/quant_blocks.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

template <DType kType, class Block>
struct GgmlRows {
  static constexpr std::size_t row_bytes(BlockShape shape) {
    return shape.head_dim / kSmallBlock * sizeof(Block);
  }
  static std::size_t n_bytes(BlockShape shape) { return shape.block_tokens * row_bytes(shape); }

  static std::string refusal(BlockShape shape) {
    if (shape.head_dim % kSmallBlock == 0) return "";
    return fmt::format("head_dim {} is not a multiple of {}", shape.head_dim, kSmallBlock);
  }

  static void read(const std::byte* part, std::uint32_t row, BlockShape shape, float* out) {
    decode_row(kType, part + row * row_bytes(shape), shape.head_dim, out);
  }

  static void move(const std::byte* from, std::uint32_t from_row, BlockShape shape, std::byte* to,
                   std::uint32_t to_row) {
    std::memmove(to + to_row * row_bytes(shape), from + from_row * row_bytes(shape),
                 row_bytes(shape));
  }

  static constexpr KvCodec codec(KvFormat format, std::string_view name) {
    KvCodec codec{};
    codec.format = format;
    codec.raw = KvFormat::bf16;
    codec.name = name;
    codec.k_bytes = codec.v_bytes = n_bytes;
    codec.refusal_k = codec.refusal_v = refusal;
    codec.read_k = codec.read_v = read;
    codec.move_k = codec.move_v = move;
    return codec;
  }
};

constexpr KvCodec make_q8_0() {
  KvCodec codec = GgmlRows<DType::q8_0, BlockQ8_0>::codec(KvFormat::q8_0, "q8_0");
  codec.encode_k = [](const simd::Table& table) { return table.encode_q8_0_k; };
  codec.encode_v = [](const simd::Table& table) { return table.encode_q8_0_v; };
  codec.decode_k = [](const simd::Table& table) { return table.decode_q8_0_k; };
  codec.decode_v = [](const simd::Table& table) { return table.decode_q8_0_v; };
  codec.unpack_k = [](const simd::Table& table) { return table.unpack_q8_0_k; };
  codec.unpack_v = [](const simd::Table& table) { return table.unpack_q8_0_v; };
  codec.run_scores = [](const simd::Table& table) { return table.run_scores_q8_0; };
  codec.run_accumulate = [](const simd::Table& table) { return table.run_accumulate_q8_0; };
  return codec;
}
constexpr KvCodec make_q4_0() {
  KvCodec codec = GgmlRows<DType::q4_0, BlockQ4_0>::codec(KvFormat::q4_0, "q4_0");
  codec.encode_k = [](const simd::Table& table) { return table.encode_q4_0_k; };
  codec.encode_v = [](const simd::Table& table) { return table.encode_q4_0_v; };
  codec.decode_k = [](const simd::Table& table) { return table.decode_q4_0_k; };
  codec.decode_v = [](const simd::Table& table) { return table.decode_q4_0_v; };
  codec.unpack_k = [](const simd::Table& table) { return table.unpack_q4_0_k; };
  codec.unpack_v = [](const simd::Table& table) { return table.unpack_q4_0_v; };
  codec.run_scores = [](const simd::Table& table) { return table.run_scores_q4_0; };
  codec.run_accumulate = [](const simd::Table& table) { return table.run_accumulate_q4_0; };
  return codec;
}
constexpr KvCodec kQ8 = make_q8_0(), kQ4 = make_q4_0();

}  // namespace

const KvCodec& q8_0_codec() noexcept { return kQ8; }
const KvCodec& q4_0_codec() noexcept { return kQ4; }

}  // namespace larder
