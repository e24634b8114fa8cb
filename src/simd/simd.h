// The only door to instruction sets: a table of primitives per set, chosen once from CPUID.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "simd/code_book.h"
#include "simd/key_turn.h"
#include "tensor/dtype.h"
#include "tensor/packed.h"

namespace larder::simd {

/// Activations of one or more rows, ready to be multiplied with quantised weights: int8 per 32
/// elements with one float scale each. `sums` holds, per 16 elements, the plain sum of their int8
/// values (formats with an offset or a minimum need it).
/// Buffers belong to the caller; row t of `q` begins at q + t * n_cols, of `scales` at
/// scales + t * n_cols / 32, of `sums` at sums + t * n_cols / 16.
struct Q8Rows {
  std::int8_t* q;
  float* scales;
  std::int32_t* sums;
  std::size_t n_cols;  // multiple of 32
};

/// `n_rows` weight rows in their file format, each `row_bytes` long.
struct WeightRows {
  const std::byte* data;
  std::size_t row_bytes;
  std::size_t n_rows;
  std::size_t n_cols;
};

/// out[t * ld_out + r] = <weight row r, x row t> for t in [0, n_x), r in [0, w.n_rows).
/// A result depends on its two rows alone: never on n_rows, n_x or where the rows stand. That is
/// what makes a token's logits independent of the batch it travels in.
using LinearQ8Fn = void (*)(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                            std::size_t ld_out);
/// The same with float activations, for f32, f16 and bf16 weights. x: [n_x, n_cols].
using LinearF32Fn = void (*)(const WeightRows& w, const float* x, std::size_t n_x, float* out,
                             std::size_t ld_out);

/// The same activations as packed int8 kernels read them: in tiles of kQ8TileRows rows, the last
/// one of as many as are left. A tile of h rows holds, for each group of 32 columns in turn,
///   [h] float scales; [h] int32 -128 * sum; [h] int32 -8 * sum; [8][h][4] int8, four columns each
/// where `sum` is that of the 32 int8 values: a sum of products starts there when the weights'
/// codes have 128 (q8_0) or 8 (q4_0) added to them. A tile of rows [r, r + h) begins at data + r *
/// n_cols / 32 * kQ8GroupBytes. The buffer belongs to the caller.
struct Q8Tiles {
  std::byte* data;
  std::size_t n_cols;  // multiple of 32
};
inline constexpr std::size_t kQ8TileRows = 6;
inline constexpr std::size_t kQ8GroupBytes = 44;  // of one row

/// Rows [0, n_rows) of `rows` as tiles.
void tile_q8(const Q8Rows& rows, std::size_t n_rows, const Q8Tiles& tiles);

/// Activations rounded to bf16 (to nearest, ties to even): row t begins at v + t * stride.
/// The buffer belongs to the caller.
struct Bf16Rows {
  std::uint16_t* v;
  std::size_t stride;  // n_cols rounded up to an even number; the last value is then zero
};

/// Rows of a tile of x as the sets with matrix units read it.
inline constexpr std::size_t kMatrixRows = 16;
/// The activations of Q8Rows as such tiles, for many rows. In what order the tiles stand is the
/// set's own business. The buffers belong to the caller.
struct Q8Matrix {
  std::int8_t* codes;  // of [n_rows rounded up to whole tiles, n_cols]
  float* scales;       // of [n_rows rounded up to whole tiles, n_cols / 32]
  std::size_t n_rows;
  std::size_t n_cols;  // multiple of 32
};

/// Activations rounded to bf16 as such tiles, for any number of rows; the last one is of as many
/// rows as are left.
struct Bf16Matrix {
  std::uint16_t* v;  // of [n_rows, n_cols rounded up to 32]
  std::size_t n_rows;
  std::size_t n_cols;
};

/// As above over packed weights (tensor/packed.h). For q8_0 and q4_0 a result has the same bits as
/// that over file rows. `out` is that of the first row of `w`.
using PackedQ8Fn = void (*)(const PackedRows& w, const Q8Tiles& x, std::size_t n_x, float* out,
                            std::size_t ld_out);
using PackedBf16Fn = void (*)(const PackedRows& w, const Bf16Rows& x, std::size_t n_x, float* out,
                              std::size_t ld_out);

/// Rows [0, n_rows) of `rows` as those from `first` on, a multiple of kMatrixRows. The tiles of an
/// input may be made one by one, in any order.
using TileQ8MatrixFn = void (*)(const Q8Rows& rows, std::size_t n_rows, const Q8Matrix& matrix,
                                std::size_t first);
/// To the bit what PackedQ8Fn gives for the same rows.
using PackedQ8MatrixFn = void (*)(const PackedRows& w, const Q8Matrix& x, float* out,
                                  std::size_t ld_out);

/// x [n_rows, n_cols] as the rows from `first` on, otherwise as TileQ8MatrixFn.
using TileBf16MatrixFn = void (*)(const float* x, std::size_t n_rows, const Bf16Matrix& matrix,
                                  std::size_t first);
/// As PackedBf16Fn, with another order of additions: a set takes one of the two for all numbers of
/// rows.
using PackedBf16MatrixFn = void (*)(const PackedRows& w, const Bf16Matrix& x, float* out,
                                    std::size_t ld_out);

/// A run of queries against the K part of one block, and a run of weights against its V part.
/// A block holds `block_tokens` rows (multiple of 16, at most kMaxBlockTokens) of one KV head. See
/// codec/kv_codec.h for the layouts.
inline constexpr std::uint32_t kMaxBlockTokens = 128;
inline constexpr std::size_t kMaxHeadDim = 1024;  // of a model (ModelConfig)
struct BlockShape {
  std::uint32_t block_tokens;
  std::uint32_t head_dim;  // even
};
/// Scores, later weights, of `n_q` queries against the rows of a block: those of query i begin at
/// data + i * stride. A stride of more than one block lets the blocks of a run stand side by side.
struct ScoreTile {
  float* data;
  std::size_t n_q;
  std::size_t stride;
};
/// The K or V part of a block, and the part that will be read next: it is fetched into the cache
/// meanwhile, line by line, because blocks stand anywhere in memory. `next` is never dereferenced
/// and may be null.
struct KvPart {
  const std::byte* data;
  const std::byte* next;
};
/// scores.data[i * stride + t] = <q row i, K row t>; q: [n_q, head_dim] f32. Rows not yet written
/// give garbage that the caller masks. Independent of n_q, as above.
using ScoresFn = void (*)(const float* q, KvPart k, BlockShape shape, ScoreTile scores);
/// out[i * head_dim + d] += sum over t < n_tokens of weights.data[i * stride + t] * V[t][d].
/// Rows from n_tokens on are not looked at. Independent of n_q.
using AccumulateFn = void (*)(ScoreTile weights, KvPart v, BlockShape shape, std::uint32_t n_tokens,
                              float* out);

/// Scores against rows in the layout of a V part, which latent attention stores its one row per
/// token in: scores.data[i * stride + t] = <q row i, row t>. Otherwise as ScoresFn.
using RowScoresFn = ScoresFn;
/// The K or V parts of consecutive blocks, in order: parts[b] holds rows b * block_tokens and
/// following. Behind them stand `n_next` parts that will be read next, to be fetched meanwhile, as
/// in KvPart.
struct KvRun {
  const std::byte* const* parts;  // [n_blocks + n_next]
  std::size_t n_blocks, n_next;
};
/// ScoresFn over the blocks of a run: scores.data[i * stride + t] for t < n_blocks * block_tokens.
/// Queries may be rounded, see `rounds_bf16`. Fastest with as many queries at once as
/// Table::run_queries says, over f16 parts Table::half_queries.
using RunScoresFn = void (*)(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores);
/// AccumulateFn over the blocks of a run: `n_tokens` of all of them together. Weights may be
/// rounded, see `rounds_bf16`. Weights of zero leave the result as it is to the bit, as long as the
/// rows they stand for are finite.
using RunAccumulateFn = void (*)(ScoreTile weights, const KvRun& v, BlockShape shape,
                                 std::uint32_t n_tokens, float* out);
inline constexpr std::size_t kMaxRunQueries = 16;
inline constexpr std::size_t kMaxHalfQueries = 48;

/// Parts that are rows of ggml blocks, [n][d / 32] (tensor/quant_blocks.h), as bf16 parts; values
/// are rounded to bf16. REQUIRES: head_dim a multiple of 32. (Byte parts: see the table.)
using DecodeRowsFn = void (*)(const std::byte* part, BlockShape shape, std::byte* bf16);
/// Such parts as integer parts (simd/integer_rows.h), the same bytes in all sets but those that say
/// `unpacks_bf16`: there the integers are bf16 numbers.
using UnpackRowsFn = void (*)(const std::byte* part, BlockShape shape, std::byte* integers);
/// A full bf16 part -> rows of ggml blocks, the same bytes in all sets. NaN counts as zero, what is
/// beyond +-65504 as that.
using EncodeRowsFn = void (*)(const std::byte* bf16, BlockShape shape, std::byte* part);

// Blocks of codes: see simd/code_book.h. REQUIRES: head_dim a multiple of 16, and a whole number of
// groups of planes.
/// A full bf16 part -> codes. NaN counts as zero, what is beyond +-65504 as that; with
/// CodeFit::range as zero, too.
using EncodeCodesFn = void (*)(const CodeBook& book, const std::byte* bf16, BlockShape shape,
                               std::byte* part);
/// The values of the codes, not yet scaled, as a bf16 part keeps them; with CodeFit::range the
/// elements themselves, zero + scale * value, rounded to bf16.
using DecodeCodesFn = void (*)(const CodeBook& book, const std::byte* part, BlockShape shape,
                               std::byte* bf16);
/// Codes that are bytes (`codes_are_bytes`) -> the rows of the byte part (simd/byte_rows.h) of
/// their values; its scales are those of the codes.
using UnpackCodesFn = DecodeCodesFn;
/// RunScoresFn and RunAccumulateFn over parts of codes. Of codes that are bytes: to the bit what
/// Table::run_scores_bytes and its like give for unpacked parts. Of others: what the bf16
/// primitives give for decoded parts, where rows have scales with the scores multiplied by them
/// afterwards, the weights before.
/// REQUIRES: n_tokens is a whole number of blocks.
using CodeScoresFn = void (*)(const CodeBook& book, const float* q, const KvRun& k,
                              BlockShape shape, ScoreTile scores);
using CodeAccumulateFn = void (*)(const CodeBook& book, ScoreTile weights, const KvRun& v,
                                  BlockShape shape, std::uint32_t n_tokens, float* out);

// Keys as they were before rope (simd/key_turn.h), in bf16 K parts. The same bits in all sets.
/// Stored values y, finite, become keys, in place.
using TurnKeysFn = void (*)(const KeyTurn& turn, BlockShape shape, std::byte* bf16);
/// Keys become stored values `y`. NaN counts as zero, what is beyond +-65504 as that.
using TurnBackFn = void (*)(const KeyTurn& turn, const std::byte* bf16, BlockShape shape,
                            std::byte* y);
/// The codes of the table's values nearest to those of a K part, finite ones, without a scale: the
/// part is codes alone. Tables below 8 bits; REQUIRES what blocks of codes do.
using PackCodesFn = EncodeCodesFn;

/// Bytes of the codes of a part; its scales stand behind them.
[[gnu::always_inline]] constexpr std::size_t code_bytes(const CodeBook& book,
                                                        BlockShape shape) noexcept {
  return std::size_t{shape.block_tokens} * shape.head_dim * book.bits / 8;
}
/// Of a whole part: codes, then f16 scales of rows, or with CodeFit::range scales and zeros of
/// channels (K) or of rows (V).
[[gnu::always_inline]] constexpr std::size_t k_part_bytes(const CodeBook& book, BlockShape shape) {
  return code_bytes(book, shape) + (book.fit == CodeFit::range
                                        ? 4 * std::size_t{shape.head_dim}
                                        : 2 * std::size_t{shape.block_tokens});
}
[[gnu::always_inline]] constexpr std::size_t v_part_bytes(const CodeBook& book, BlockShape shape) {
  return code_bytes(book, shape) +
         (book.fit == CodeFit::range ? 4 : 2) * std::size_t{shape.block_tokens};
}

/// The most that any of some queries gets from what stands in each part, rows of bf16 numbers:
/// out[b] = max over i < n_q of <q row i, bounds.parts[b]>; q [n_q, n], n even. Each product
/// depends on its two rows alone, as above. For the bounds of blocks of keys
/// (kernels/key_bounds.h).
using BoundScoresFn = void (*)(const float* q, std::size_t n_q, const KvRun& bounds, std::size_t n,
                               float* out);

/// Bytes that will be read soon: they are fetched into the cache, as far as it lasts a line at a
/// time between other work, which goes on while they come. Never dereferenced.
struct Upcoming {
  const std::byte* data = nullptr;
  std::size_t n_bytes = 0;
};

struct Table {
  std::string_view name;  // "scalar", "avx2", "avxvnni", "avx512", "amx"

  // --- vectors of floats ---------------------------------------------------------------------
  float (*dot)(const float* a, const float* b, std::size_t n);
  void (*axpy)(float a, const float* x, float* y, std::size_t n);  // y += a * x
  void (*scale)(float a, float* x, std::size_t n);                 // x *= a
  void (*multiply)(const float* x, float* y, std::size_t n);       // y *= x, element by element
  float (*sum_squares)(const float* x, std::size_t n);
  float (*max)(const float* x, std::size_t n);  // n > 0
  /// x[i] = exp(x[i] - shift); returns the sum. exp(-inf) is exactly 0. May ask for `next`
  /// meanwhile.
  float (*exp_shift_sum)(float* x, float shift, std::size_t n, Upcoming next);
  void (*silu_mul)(const float* gate, const float* up, float* out, std::size_t n);
  void (*gelu_tanh_mul)(const float* gate, const float* up, float* out, std::size_t n);
  void (*tanh_cap)(float* x, float cap, std::size_t n);  // x = cap * tanh(x / cap)
  /// Multiplies each piece of `size` elements of rows [n_rows, head_dim] by the orthonormal
  /// Hadamard matrix, `size` the largest power of two that divides head_dim: spreads what stands
  /// out in one channel over all of them (QuaRot, arXiv:2404.00456), leaves dot products as they
  /// are, and is its own inverse. The same bits in all sets.
  void (*hadamard)(float* rows, std::size_t n_rows, std::size_t head_dim);

  // --- linear layers -------------------------------------------------------------------------
  /// x: [n_rows, rows.n_cols] -> rows
  void (*quantize_q8)(const float* x, std::size_t n_rows, const Q8Rows& rows);
  LinearF32Fn linear_f32, linear_f16, linear_bf16;
  LinearQ8Fn linear_q8_0, linear_q4_0, linear_q4_1, linear_q5_0, linear_q5_1;
  LinearQ8Fn linear_q4_k, linear_q5_k, linear_q6_k;  // n_cols multiple of 256

  PackedQ8Fn packed_q8_0, packed_q4_0;
  /// x: [n_rows, n_cols] -> rows
  void (*round_bf16)(const float* x, std::size_t n_rows, std::size_t n_cols, const Bf16Rows& rows);
  PackedBf16Fn packed_bf16;
  // Null in sets without matrix units.
  TileQ8MatrixFn tile_q8_matrix;
  PackedQ8MatrixFn packed_q8_0_matrix, packed_q4_0_matrix;
  TileBf16MatrixFn tile_bf16_matrix;
  PackedBf16MatrixFn packed_bf16_matrix;

  // --- KV blocks -----------------------------------------------------------------------------
  ScoresFn scores_f32, scores_f16, scores_bf16;
  AccumulateFn accumulate_f32, accumulate_f16, accumulate_bf16;
  RowScoresFn row_scores_f32, row_scores_f16, row_scores_bf16;
  RunScoresFn run_scores_f32, run_scores_f16, run_scores_bf16;
  RunAccumulateFn run_accumulate_f32, run_accumulate_f16, run_accumulate_bf16;
  EncodeCodesFn encode_codes_k, encode_codes_v;
  DecodeCodesFn decode_codes_k, decode_codes_v;
  UnpackCodesFn unpack_codes_k, unpack_codes_v;
  EncodeRowsFn encode_q8_0_k, encode_q8_0_v, encode_q4_0_k, encode_q4_0_v;
  DecodeRowsFn decode_q8_0_k, decode_q8_0_v, decode_q4_0_k, decode_q4_0_v;
  UnpackRowsFn unpack_q8_0_k, unpack_q8_0_v, unpack_q4_0_k, unpack_q4_0_v;
  /// Over the set's integer parts, and over parts of ggml blocks, to the bit the same; in sets of
  /// integers the same in all, see simd/integer_rows.h. REQUIRES: n_tokens is a whole number of
  /// blocks.
  RunScoresFn run_scores_integers;
  RunAccumulateFn run_accumulate_integers;
  RunScoresFn run_scores_q8_0, run_scores_q4_0;              // null in sets that only unpack
  RunAccumulateFn run_accumulate_q8_0, run_accumulate_q4_0;  // null where those are
  TurnKeysFn turn_keys;
  TurnBackFn turn_back_keys;
  PackCodesFn pack_codes_k;
  /// f16 -> f32, as scales stand in parts; n a multiple of 16.
  void (*read_halves)(const std::byte* halves, std::size_t n, float* out);
  CodeScoresFn run_scores_codes;          // null in sets that only decode and unpack
  CodeAccumulateFn run_accumulate_codes;  // null where that is
  /// Byte parts (simd/byte_rows.h). REQUIRES: head_dim is a multiple of 16. Encoding: a full bf16
  /// part, of which NaN counts as zero and what is beyond +-65504 as that; decoding: the bytes as
  /// bf16 numbers, exact, not yet scaled. All of this has the same bits in all sets for finite
  /// queries and weights, and any number of them. Weights are rounded
  /// together for as many whole blocks, from the first on, as 512 rows hold: in no more than these,
  /// zeros before, between and behind leave the result as it is to the bit. REQUIRES: n_tokens is a
  /// whole number of blocks.
  EncodeRowsFn encode_bytes_k, encode_bytes_v;
  DecodeRowsFn decode_bytes_k, decode_bytes_v;
  RunScoresFn run_scores_bytes;
  /// `n_tokens` a multiple of 16; the last block may have more. Parts of at most kByteRun tokens.
  RunAccumulateFn run_accumulate_bytes;
  /// Asks for the cache lines of [data, data + n) without waiting for them.
  void (*fetch)(const std::byte* data, std::size_t n);
  std::size_t run_queries;   // at most kMaxRunQueries
  std::size_t half_queries;  // over f16 parts, at most kMaxHalfQueries
  std::size_t byte_tokens;   // of V in byte parts that an instruction multiplies
  /// run_scores_bf16 rounds queries, and run_accumulate_bf16 weights, to bf16 as the rows are.
  bool rounds_bf16;
  /// What `unpack_...` makes are bf16 numbers; run_scores_integers and its like round queries, and
  /// weights times scales, to bf16, not to integers.
  bool unpacks_bf16;
  BoundScoresFn bound_scores;
};

const Table& scalar_table() noexcept;
/// Sets that this machine can run, the slowest (scalar) first.
std::span<const Table* const> available() noexcept;
/// The fastest of `available()`.
const Table& best() noexcept;

}  // namespace larder::simd
