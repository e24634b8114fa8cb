// Storage formats of cached K and V rows: how one KV head's share of a block becomes bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "simd/simd.h"

namespace larder {

using simd::BlockShape;
using simd::kMaxBlockTokens;

enum class KvFormat : std::uint8_t {
  f32,
  f16,
  bf16,
  int8,
  int4,
  fp8,
  rot8,
  rot5,
  rot4,
  rot3,
  rot2,
  kivi8,
  kivi4,
  kivi2,
  q8_0,
  q4_0,
  kvq4,
  kvq4o,
  kvq3,
  kvq3o,
  kvq2,
  kvq2o
};

/// A sealed format of keys as they were before rope (codec/key_codes.h): codes of a table that was
/// made for the layer's keys, and perhaps 1 % of the elements of a block kept apart.
struct BeforeRope {
  std::uint32_t bits;
  bool keeps_apart;
};

/// What the run-time choice of a format comes to. One constant table per format (see `kv_codec`);
/// kernels fetch the entry once per call, never per row.
///
/// Raw formats store each row on its own, so an open block is written row by row and a full one is
/// the same block. Sealed formats encode all rows of a block at once, when it is full, from the
/// block of format `raw`, bf16 for all of them, that it was filled as.
///
/// Layouts of the raw formats (`n` = block_tokens, `d` = head_dim), chosen so that one load feeds
/// 16 tokens of K or 16 channels of V and no kernel needs a horizontal sum:
///  - K f32, f16: [n / 16][d][16 tokens].
///  - K bf16:     [n / 16][d / 2][16 tokens][2 channels]: pairs of channels interleaved, as VNNI
///                and AMX instructions read them.
///  - V f32, f16: [n][d].
///  - V bf16:     [n / 2][d][2 tokens]: pairs of tokens interleaved.
/// Those of the sealed formats: simd/code_book.h, simd/byte_rows.h, tensor/quant_blocks.h.
struct KvCodec {
  KvFormat format;
  KvFormat raw;           // format of open blocks of this codec; its own of a raw one
  std::string_view name;  // as users write it: "bf16"
  /// Rows are cached, and queries meet them, multiplied by a Hadamard matrix (simd::Table).
  bool rotates = false;
  std::size_t (*k_bytes)(BlockShape shape);
  std::size_t (*v_bytes)(BlockShape shape);
  /// Why blocks of this shape cannot be stored; empty when they can. Null: all can.
  std::string (*refusal_k)(BlockShape shape) = nullptr;
  std::string (*refusal_v)(BlockShape shape) = nullptr;
  /// Raw formats only. Writes row `row` of an open block from `in` [head_dim] f32; other rows keep
  /// their bytes.
  void (*append_k)(const float* in, std::uint32_t row, BlockShape shape, std::byte* k) = nullptr;
  void (*append_v)(const float* in, std::uint32_t row, BlockShape shape, std::byte* v) = nullptr;
  /// Decodes row `row` into `out` [head_dim]: for tests, sealing, export and conversion, not for
  /// attention.
  void (*read_k)(const std::byte* k, std::uint32_t row, BlockShape shape, float* out);
  void (*read_v)(const std::byte* v, std::uint32_t row, BlockShape shape, float* out);
  /// Attention primitives of a raw format in the given instruction set.
  simd::ScoresFn (*scores)(const simd::Table& table) = nullptr;
  simd::AccumulateFn (*accumulate)(const simd::Table& table) = nullptr;
  simd::RowScoresFn (*row_scores)(const simd::Table& table) = nullptr;
  /// And of a sealed one that is no codes, as it is; null in sets that only unpack.
  simd::RunScoresFn (*run_scores)(const simd::Table& table) = nullptr;
  simd::RunAccumulateFn (*run_accumulate)(const simd::Table& table) = nullptr;
  /// Sealed formats only: what their codes stand for, or
  const simd::CodeBook* codes = nullptr;
  /// how a full block of format `raw` becomes a part, and a part a bf16 part, rounded; where rows
  /// have scales, not yet multiplied by them.
  simd::EncodeRowsFn (*encode_k)(const simd::Table& table) = nullptr;
  simd::EncodeRowsFn (*encode_v)(const simd::Table& table) = nullptr;
  simd::DecodeRowsFn (*decode_k)(const simd::Table& table) = nullptr;
  simd::DecodeRowsFn (*decode_v)(const simd::Table& table) = nullptr;
  /// Where the scales of rows, f16 [n], stand in a part. Null: they have none.
  std::size_t (*row_scales)(BlockShape shape) = nullptr;
  /// Of those that are no codes, formats that attention multiplies by integers
  /// (simd/integer_rows.h): how a part becomes an integer part.
  simd::UnpackRowsFn (*unpack_k)(const simd::Table& table) = nullptr;
  simd::UnpackRowsFn (*unpack_v)(const simd::Table& table) = nullptr;
  /// Sealed formats whose rows stand on their own: copies row `from_row` of a part, codes and
  /// scale, to row `to_row` of another, or of the same. Null: rows have something in common.
  void (*move_k)(const std::byte* from, std::uint32_t from_row, BlockShape shape, std::byte* to,
                 std::uint32_t to_row) = nullptr;
  void (*move_v)(const std::byte* from, std::uint32_t from_row, BlockShape shape, std::byte* to,
                 std::uint32_t to_row) = nullptr;
  /// Or keys as they were before rope; encoding and decoding them takes what is known of the layer
  /// (kernels/turned_keys.h), and `read_k` is not to be called.
  const BeforeRope* before_rope = nullptr;

  bool is_raw() const noexcept { return raw == format; }
  /// Attention, but for latent attention, reads parts as they are in every set and for any number
  /// of queries.
  bool is_read_as_stored() const noexcept {
    return codes == nullptr && unpack_k == nullptr && before_rope == nullptr;
  }
};

const KvCodec& kv_codec(KvFormat format) noexcept;
std::optional<KvFormat> parse_kv_format(std::string_view name) noexcept;
std::span<const KvCodec* const> kv_codecs() noexcept;

}  // namespace larder
