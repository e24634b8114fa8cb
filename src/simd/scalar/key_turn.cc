#include "simd/scalar/key_turn.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensor/half.h"

namespace larder::simd::scalar {
namespace {

constexpr std::size_t kLanes = 16;  // tokens of a plane
constexpr std::size_t kPlane = 32;  // elements: 16 tokens of two channels
constexpr float kMaxElement = 65504.0F;

// Where an element stands in a bf16 K part (codec/kv_codec.h).
std::byte* at(std::byte* part, std::size_t token, std::size_t channel, BlockShape shape) {
  const std::size_t plane = token / kLanes * (shape.head_dim / 2) + channel / 2;
  return part + 2 * (plane * kPlane + 2 * (token % kLanes) + channel % 2);
}

float load(const std::byte* from) {
  std::uint16_t x;
  std::memcpy(&x, from, sizeof(x));
  return bf16_to_f32(x);
}
void store(float x, std::byte* to) {
  const std::uint16_t bf16 = f32_to_bf16(x);
  std::memcpy(to, &bf16, sizeof(bf16));
}
float finite(float x) { return std::isnan(x) ? 0.0F : std::clamp(x, -kMaxElement, kMaxElement); }

struct Angle {
  float cos, sin;
};
// Of pair i at row `row` of the block. Sums of products are fused here and below as other sets fuse
// them.
Angle angle(const KeyTurn& turn, std::size_t i, std::size_t row) {
  const float rc = turn.row_cos[i * turn.row_stride + row];
  const float rs = turn.row_sin[i * turn.row_stride + row];
  const float bc = turn.block_cos[i], bs = turn.block_sin[i];
  return {std::fma(bc, rc, -(bs * rs)), std::fma(bs, rc, bc * rs)};
}

struct Channels {
  std::size_t a, b;
};
Channels pair(const KeyTurn& turn, std::size_t i) {
  return turn.adjacent ? Channels{2 * i, 2 * i + 1} : Channels{i, i + turn.n_half};
}

}  // namespace

void turn_keys(const KeyTurn& turn, BlockShape shape, std::byte* bf16) {
  const auto key = [&](std::size_t row, std::size_t channel) {
    return std::fma(turn.spread[channel], load(at(bf16, row, channel, shape)), turn.mean[channel]);
  };
  for (std::size_t row = 0; row < shape.block_tokens; ++row) {
    for (std::size_t i = 0; i < turn.n_half; ++i) {
      const Channels of = pair(turn, i);
      const Angle by = angle(turn, i, row);
      const float a = key(row, of.a), b = key(row, of.b);
      store(std::fma(a, by.cos, -(b * by.sin)), at(bf16, row, of.a, shape));
      store(std::fma(b, by.cos, a * by.sin), at(bf16, row, of.b, shape));
    }
    for (std::size_t c = 2 * turn.n_half; c < shape.head_dim; ++c) {
      store(key(row, c), at(bf16, row, c, shape));
    }
  }
}

void turn_back_keys(const KeyTurn& turn, const std::byte* bf16, BlockShape shape, std::byte* y) {
  const auto key = [&](std::size_t row, std::size_t channel) {
    return finite(load(at(const_cast<std::byte*>(bf16), row, channel, shape)));
  };
  const auto put = [&](float x, std::size_t row, std::size_t channel) {
    store((x - turn.mean[channel]) * turn.inverse[channel], at(y, row, channel, shape));
  };
  for (std::size_t row = 0; row < shape.block_tokens; ++row) {
    for (std::size_t i = 0; i < turn.n_half; ++i) {
      const Channels of = pair(turn, i);
      const Angle by = angle(turn, i, row);
      const float a = key(row, of.a), b = key(row, of.b);
      put(std::fma(a, by.cos, b * by.sin), row, of.a);
      put(std::fma(b, by.cos, -(a * by.sin)), row, of.b);
    }
    for (std::size_t c = 2 * turn.n_half; c < shape.head_dim; ++c) put(key(row, c), row, c);
  }
}

// A plane of codes has the order of a plane of bf16 values (simd/code_book.h).
void pack_codes_k(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part) {
  const std::size_t n_bytes = code_bytes(book, shape);
  const std::size_t n_planes = std::size_t{shape.block_tokens} / kLanes * (shape.head_dim / 2);
  const std::size_t group = group_planes(book.bits), per_word = 16 / book.bits;
  const float* const end = book.bounds + ((1U << book.bits) - 1U);
  std::memset(part, 0, n_bytes);
  const auto set = [&](std::size_t word, std::size_t j, unsigned bits) {
    std::byte* const to = part + word * 64 + 2 * j;
    std::uint16_t w;
    std::memcpy(&w, to, sizeof(w));
    w = static_cast<std::uint16_t>(w | bits);
    std::memcpy(to, &w, sizeof(w));
  };
  for (std::size_t p = 0; p < n_planes; ++p) {
    const std::size_t words = p / group * n_words(book.bits), i = p % group;
    for (std::size_t j = 0; j < kPlane; ++j) {
      const float x = load(bf16 + 2 * (p * kPlane + j));
      const auto code = static_cast<unsigned>(std::lower_bound(book.bounds, end, x) - book.bounds);
      if (i < 15) {
        set(words + i / per_word, j, code << (book.bits * (i % per_word)));
      } else {
        for (std::size_t k = 0; k < book.bits; ++k) set(words + k, j, (code >> k & 1U) << 15);
      }
    }
  }
}

}  // namespace larder::simd::scalar
