// Where an element of a raw K or V part stands, in elements from the beginning of the part.
#pragma once

#include <cstddef>
#include <cstring>

#include "codec/kv_codec.h"

namespace larder {

inline constexpr std::size_t kTileTokens = 16;  // tokens of a K tile: the lanes of a 512-bit vector

/// K [n / 16][d][16 tokens], V [n][d].
struct PlainLayout {
  static std::size_t k_index(std::size_t row, std::size_t channel, BlockShape shape) {
    return (row / kTileTokens * shape.head_dim + channel) * kTileTokens + row % kTileTokens;
  }
  static std::size_t v_index(std::size_t row, std::size_t channel, BlockShape shape) {
    return row * shape.head_dim + channel;
  }
};

/// K [n / 16][d / 2][16 tokens][2 channels], V [n / 2][d][2 tokens].
struct PairLayout {
  static std::size_t k_index(std::size_t row, std::size_t channel, BlockShape shape) {
    const std::size_t pair = row / kTileTokens * (shape.head_dim / 2) + channel / 2;
    return (pair * kTileTokens + row % kTileTokens) * 2 + channel % 2;
  }
  static std::size_t v_index(std::size_t row, std::size_t channel, BlockShape shape) {
    return (row / 2 * shape.head_dim + channel) * 2 + row % 2;
  }
};

/// Appends and reads single rows of a format that stores each element on its own.
/// `Element` names the stored type and converts: `Stored`, `from_f32(float)`, `to_f32(Stored)`.
template <class Element, class Layout>
struct RowAccess {
  using Stored = typename Element::Stored;

  static std::size_t n_bytes(BlockShape shape) {
    return std::size_t{shape.block_tokens} * shape.head_dim * sizeof(Stored);
  }
  static void append_k(const float* in, std::uint32_t row, BlockShape shape, std::byte* k) {
    for (std::size_t c = 0; c < shape.head_dim; ++c) {
      store(k, Layout::k_index(row, c, shape), in[c]);
    }
  }
  static void append_v(const float* in, std::uint32_t row, BlockShape shape, std::byte* v) {
    for (std::size_t c = 0; c < shape.head_dim; ++c) {
      store(v, Layout::v_index(row, c, shape), in[c]);
    }
  }
  static void read_k(const std::byte* k, std::uint32_t row, BlockShape shape, float* out) {
    for (std::size_t c = 0; c < shape.head_dim; ++c) {
      out[c] = load(k, Layout::k_index(row, c, shape));
    }
  }
  static void read_v(const std::byte* v, std::uint32_t row, BlockShape shape, float* out) {
    for (std::size_t c = 0; c < shape.head_dim; ++c) {
      out[c] = load(v, Layout::v_index(row, c, shape));
    }
  }

 private:
  static void store(std::byte* part, std::size_t index, float value) {
    const Stored stored = Element::from_f32(value);
    std::memcpy(part + index * sizeof(Stored), &stored, sizeof(Stored));
  }
  static float load(const std::byte* part, std::size_t index) {
    Stored stored;
    std::memcpy(&stored, part + index * sizeof(Stored), sizeof(Stored));
    return Element::to_f32(stored);
  }
};

}  // namespace larder
