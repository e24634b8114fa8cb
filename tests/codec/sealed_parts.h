// Rows as parts of sealed formats, and back, for tests.
#pragma once

#include <cstddef>
#include <random>
#include <vector>

#include "codec/kv_codec.h"

namespace larder {

using Rows = std::vector<std::vector<float>>;
enum class Side { k, v };

inline Rows normal_rows(std::mt19937& rng, BlockShape shape) {
  std::normal_distribution<float> normal;
  Rows rows(shape.block_tokens, std::vector<float>(shape.head_dim));
  for (auto& row : rows) {
    for (float& x : row) x = normal(rng);
  }
  return rows;
}

/// Rows -> open block -> sealed part in a buffer of the exact size.
inline std::vector<std::byte> seal(const KvCodec& codec, Side side, const simd::Table& table,
                                   BlockShape shape, const Rows& rows) {
  const KvCodec& raw = kv_codec(codec.raw);
  const bool k = side == Side::k;
  std::vector<std::byte> open(k ? raw.k_bytes(shape) : raw.v_bytes(shape));
  for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
    (k ? raw.append_k : raw.append_v)(rows[t].data(), t, shape, open.data());
  }
  std::vector<std::byte> part(k ? codec.k_bytes(shape) : codec.v_bytes(shape));
  if (codec.codes == nullptr) {
    (k ? codec.encode_k : codec.encode_v)(table)(open.data(), shape, part.data());
  } else {
    (k ? table.encode_codes_k : table.encode_codes_v)(*codec.codes, open.data(), shape,
                                                      part.data());
  }
  return part;
}

/// A part as attention decodes it.
inline std::vector<std::byte> decode(const KvCodec& codec, Side side, const simd::Table& table,
                                     BlockShape shape, const std::vector<std::byte>& part) {
  const bool k = side == Side::k;
  std::vector<std::byte> bf16(std::size_t{shape.block_tokens} * shape.head_dim * 2);
  if (codec.codes == nullptr) {
    (k ? codec.decode_k : codec.decode_v)(table)(part.data(), shape, bf16.data());
  } else {
    (k ? table.decode_codes_k : table.decode_codes_v)(*codec.codes, part.data(), shape,
                                                      bf16.data());
  }
  return bf16;
}

inline Rows read(const KvCodec& codec, Side side, BlockShape shape,
                 const std::vector<std::byte>& part) {
  Rows rows(shape.block_tokens, std::vector<float>(shape.head_dim));
  for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
    (side == Side::k ? codec.read_k : codec.read_v)(part.data(), t, shape, rows[t].data());
  }
  return rows;
}

}  // namespace larder
