#include "kernels/sealed_run.h"

namespace larder {
namespace {

// Decoding a part once and reading it again as bf16 pays from about this many queries on.
constexpr std::size_t kFewQueries = 8;

void multiply(const float* scales, std::size_t n, simd::ScoreTile tile) {
  for (std::size_t i = 0; i < tile.n_q; ++i) {
    float* row = tile.data + i * tile.stride;
    for (std::size_t t = 0; t < n; ++t) row[t] *= scales[t];
  }
}

}  // namespace

SealedRun::SealedRun(const AttentionContext& context, const simd::KvRun& k, const simd::KvRun& v,
                     std::size_t n_queries, float* decoded)
    : context_(context),
      block_{context.shape.block_tokens, context.shape.head_dim},
      few_(n_queries <= kFewQueries && context.simd.run_scores_codes != nullptr) {
  set_side(k_, *context.layout.k, k, decoded);
  set_side(v_, *context.layout.v, v, decoded + side_floats(block_.head_dim));
}

void SealedRun::set_side(Side& side, const KvCodec& codec, const simd::KvRun& run,
                         float* memory) const {
  side.codec = &codec;
  side.run = run;
  side.decodes = codec.codes != nullptr && !few_;
  side.n_decoded = 0;
  side.scales = memory;
  side.rows = reinterpret_cast<std::byte*>(memory + kRunTokens);
}

void SealedRun::decode(Side& side, std::size_t n_blocks, simd::DecodeCodesFn decode_codes) const {
  const simd::CodeBook& codes = *side.codec->codes;
  const std::size_t part_bytes = std::size_t{block_.block_tokens} * block_.head_dim * 2;
  const std::size_t code_bytes = part_bytes / 16 * codes.bits;
  for (std::size_t& b = side.n_decoded; b < n_blocks; ++b) {
    const std::byte* part = side.run.parts[b];
    side.parts[b] = side.rows + b * part_bytes;
    decode_codes(codes, part, block_, side.rows + b * part_bytes);
    simd::code_scales(part + code_bytes, block_.block_tokens,
                      side.scales + b * block_.block_tokens);
  }
}

void SealedRun::scores(const float* q, std::size_t n_blocks, simd::ScoreTile scores) {
  const std::size_t n_after = k_.run.n_blocks - n_blocks + k_.run.n_next;
  if (!k_.decodes) {
    const simd::KvRun run{k_.run.parts, n_blocks, n_after};
    if (k_.codec->codes != nullptr) {
      context_.simd.run_scores_codes(*k_.codec->codes, q, run, block_, scores);
    } else {
      context_.scores(q, run, block_, scores);
    }
    return;
  }
  decode(k_, n_blocks, context_.simd.decode_codes_k);
  context_.scores(q, {k_.parts.data(), n_blocks, 0}, block_, scores);
  multiply(k_.scales, n_blocks * block_.block_tokens, scores);
}

void SealedRun::accumulate(simd::ScoreTile weights, std::size_t n_blocks, float* out) {
  const auto n_tokens = static_cast<std::uint32_t>(n_blocks * block_.block_tokens);
  const std::size_t n_after = v_.run.n_blocks - n_blocks + v_.run.n_next;
  if (!v_.decodes) {
    const simd::KvRun run{v_.run.parts, n_blocks, n_after};
    if (v_.codec->codes != nullptr) {
      context_.simd.run_accumulate_codes(*v_.codec->codes, weights, run, block_, n_tokens, out);
    } else {
      context_.accumulate(weights, run, block_, n_tokens, out);
    }
    return;
  }
  decode(v_, n_blocks, context_.simd.decode_codes_v);
  multiply(v_.scales, n_tokens, weights);
  context_.accumulate(weights, {v_.parts.data(), n_blocks, 0}, block_, n_tokens, out);
}

}  // namespace larder
