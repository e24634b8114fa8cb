// Sealed parts as attention decodes them where many queries read them.
#pragma once

#include <cstddef>

#include "codec/kv_codec.h"
#include "simd/byte_rows.h"
#include "simd/integer_rows.h"

namespace larder {

/// One side, K or V, of a sealed format: its parts become bf16 parts, byte parts
/// (simd/byte_rows.h) or integer parts (simd/integer_rows.h). Those of keys before rope become bf16
/// parts elsewhere (kernels/turned_keys.h). Borrows table and codec; any thread may call it.
class DecodedParts {
 public:
  DecodedParts(const simd::Table& simd, const KvCodec& codec, BlockShape shape, bool is_key)
      : simd_(simd), codec_(codec), shape_(shape), is_key_(is_key) {}

  /// Rows of a part, with one scale each, take no more floats.
  static constexpr std::size_t n_floats(std::size_t n_rows, std::size_t head_dim) {
    return n_rows * (1 + head_dim / 2 + head_dim / simd::kGroupChannels);
  }
  std::size_t n_bytes() const noexcept;  // of a decoded part
  /// Scores and weights are to be multiplied by the scales of rows.
  bool has_scales_apart() const noexcept { return codec_.row_scales != nullptr && !are_bytes(); }
  /// A part to `to` [n_bytes]; scales that are apart to `scales` [block_tokens].
  void decode(const std::byte* part, std::byte* to, float* scales) const;
  /// Blocks of V have fewer tokens than an instruction multiplies: better that they are joined.
  bool are_joined() const noexcept;
  /// A part to where its rows, `first` and following, stand in a byte part of `n_rows` rows.
  void join(const std::byte* part, std::size_t first, std::uint32_t n_rows, std::byte* to) const;
  simd::RunScoresFn run_scores() const noexcept;
  simd::RunAccumulateFn run_accumulate() const noexcept;

 private:
  bool are_bytes() const noexcept {
    if (codec_.codes != nullptr) return simd::codes_are_bytes(*codec_.codes);
    return codec_.is_read_as_stored() && codec_.row_scales != nullptr;
  }
  bool are_integers() const noexcept { return codec_.unpack_k != nullptr; }

  const simd::Table& simd_;
  const KvCodec& codec_;
  const BlockShape shape_;
  const bool is_key_;
};

}  // namespace larder
