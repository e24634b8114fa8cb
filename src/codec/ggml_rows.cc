#include "codec/ggml_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "codec/bf16.h"
#include "tensor/half.h"
#include "tensor/quant_blocks.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

constexpr float kMaxElement = 65504.0F;

// To the nearest integer, halves away from zero; for small magnitudes.
int rounded(float x) {
  const float size = std::abs(x);
  const int whole = static_cast<int>(size);
  const int n = whole + (size - static_cast<float>(whole) >= 0.5F ? 1 : 0);
  return x < 0 ? -n : n;
}

// Zero of what has no finite inverse.
float inverse(float scale) {
  return std::abs(scale) >= std::numeric_limits<float>::min() ? 1 / scale : 0.0F;
}

// Codes are found with the scale before it is rounded to f16, as ggml's are.
void encode_block(const float* x, BlockQ8_0& block) {
  float largest = 0;
  for (std::size_t i = 0; i < kSmallBlock; ++i) largest = std::max(largest, std::abs(x[i]));
  const float scale = largest / 127, factor = inverse(scale);
  block.d = f32_to_f16(scale);
  for (std::size_t i = 0; i < kSmallBlock; ++i) {
    block.q[i] = static_cast<std::int8_t>(std::clamp(rounded(x[i] * factor), -127, 127));
  }
}

// What is largest has code 0, that is -8.
void encode_block(const float* x, BlockQ4_0& block) {
  const float largest = *std::max_element(
      x, x + kSmallBlock, [](float a, float b) { return std::abs(a) < std::abs(b); });
  const float scale = largest / -8, factor = inverse(scale);
  block.d = f32_to_f16(scale);
  const auto code = [&](std::size_t i) {
    return static_cast<unsigned>(std::clamp(static_cast<int>(x[i] * factor + 8.5F), 0, 15));
  };
  for (std::size_t i = 0; i < kSmallBlock / 2; ++i) {
    block.q[i] = static_cast<std::uint8_t>(code(i) | code(i + kSmallBlock / 2) << 4);
  }
}

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

  template <auto kRead>
  static void encode(const std::byte* bf16, BlockShape shape, std::byte* part) {
    std::array<float, simd::kMaxHeadDim> row{};
    auto* blocks = reinterpret_cast<Block*>(part);
    for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
      (bf16_codec().*kRead)(bf16, t, shape, row.data());
      for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
        row[c] = std::isnan(row[c]) ? 0.0F : std::clamp(row[c], -kMaxElement, kMaxElement);
      }
      for (std::uint32_t c = 0; c < shape.head_dim; c += kSmallBlock) {
        encode_block(row.data() + c, *blocks++);
      }
    }
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
    codec.encode_k = encode<&KvCodec::read_k>;
    codec.encode_v = encode<&KvCodec::read_v>;
    codec.read_k = codec.read_v = read;
    codec.move_k = codec.move_v = move;
    return codec;
  }
};

constexpr KvCodec make_q8_0() {
  KvCodec codec = GgmlRows<DType::q8_0, BlockQ8_0>::codec(KvFormat::q8_0, "q8_0");
  codec.decode_k = [](const simd::Table& table) { return table.decode_q8_0_k; };
  codec.decode_v = [](const simd::Table& table) { return table.decode_q8_0_v; };
  return codec;
}
constexpr KvCodec make_q4_0() {
  KvCodec codec = GgmlRows<DType::q4_0, BlockQ4_0>::codec(KvFormat::q4_0, "q4_0");
  codec.decode_k = [](const simd::Table& table) { return table.decode_q4_0_k; };
  codec.decode_v = [](const simd::Table& table) { return table.decode_q4_0_v; };
  return codec;
}
constexpr KvCodec kQ8 = make_q8_0(), kQ4 = make_q4_0();

}  // namespace

const KvCodec& q8_0_codec() noexcept { return kQ8; }
const KvCodec& q4_0_codec() noexcept { return kQ4; }

}  // namespace larder
