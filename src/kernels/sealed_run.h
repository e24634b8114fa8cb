// The sealed blocks of a run, whatever format they have.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/attention_run.h"
#include "kernels/decoded_parts.h"
#include "kernels/turned_keys.h"

namespace larder {

inline constexpr std::uint32_t kMinBlockTokens = 16;
inline constexpr std::uint32_t kMaxRunBlocks = kRunTokens / kMinBlockTokens;

/// Multiplies queries and weights with sealed blocks. Those that are read as they are stored take
/// no decoding. Of others, parts that many queries read are decoded once, the first time they are
/// asked for (kernels/decoded_parts.h); few queries go through the kernels that decode in
/// registers, where format and instruction set have them. V in byte parts that are too short for
/// the instruction set is joined for many queries. All ways give the same bits.
class SealedRun {
 public:
  /// Of one side, K or V, of a run, in floats: scales of rows, and decoded rows with perhaps a
  /// scale for each group of channels.
  static constexpr std::size_t side_floats(std::size_t head_dim) {
    return DecodedParts::n_floats(kRunTokens, head_dim);
  }
  static constexpr std::size_t n_floats(std::size_t head_dim) { return 2 * side_floats(head_dim); }

  /// `k` and `v`: parts of the same blocks, which begin with that at `place`. `decoded`
  /// [n_floats(head_dim)] is overwritten.
  SealedRun(const AttentionContext& context, const simd::KvRun& k, const simd::KvRun& v,
            const KeyPlace& place, std::size_t n_queries, float* decoded);

  /// scores of `n_q` queries against the first `n_blocks` blocks.
  void scores(const float* q, std::size_t n_blocks, simd::ScoreTile scores);
  /// Asks for what `accumulate` reads first and far apart: the scales of V.
  void fetch_scales(std::size_t n_blocks) const;
  /// out [n_q, head_dim] += weights times V of the first `n_blocks` blocks. Spoils the weights.
  void accumulate(simd::ScoreTile weights, std::size_t n_blocks, float* out);

 private:
  struct Side {
    Side(const SealedRun& of, const KvCodec& its_codec, const simd::KvRun& its_run, bool is_key,
         float* memory);

    const KvCodec& codec;
    const simd::KvRun run;
    const DecodedParts decoded;
    const bool is_joined, decodes;
    const std::size_t n_bytes;  // of a part
    std::size_t n_decoded = 0;  // blocks
    float* const scales;        // [rows of the run]
    std::byte* const rows;
    std::array<const std::byte*, kMaxRunBlocks> parts;
  };
  simd::KvRun coded_parts(const Side& side, std::size_t n_blocks) const {
    return {side.run.parts, n_blocks, side.run.n_blocks - n_blocks + side.run.n_next};
  }
  /// Kernels multiply parts of this format as they are.
  bool multiplies(const KvCodec& codec) const;
  void decode(Side& side, std::size_t n_blocks) const;

  const AttentionContext& context_;
  const simd::BlockShape block_;
  const KeyPlace place_;
  const bool are_few_;  // queries
  Side k_, v_;
};

}  // namespace larder
