#include "kernels/sealed_run.h"

namespace larder {
namespace {

// Decoding a part once and reading it again as bf16 pays from about this many queries on.
constexpr std::size_t kFewQueries = 8;
constexpr std::size_t kFetchedAhead = 4;  // parts

}  // namespace

SealedRun::SealedRun(const AttentionContext& context, const simd::KvRun& k, const simd::KvRun& v,
                     const KeyPlace& place, std::size_t n_queries, float* decoded)
    : context_(context),
      block_{context.shape.block_tokens, context.shape.head_dim},
      place_(place),
      are_few_(n_queries <= kFewQueries) {
  const simd::Table& simd = context.simd;
  set_side(k_, *context.layout.k, k, decoded);
  k_.n_bytes = k_.codec->k_bytes(block_);
  k_.decode_codes = simd.decode_codes_k;
  if (k_.unpacks) k_.unpack = k_.codec->unpack_k(simd);
  if (k_.codec->before_rope != nullptr) k_.decodes = true;
  set_side(v_, *context.layout.v, v, decoded + side_floats(block_.head_dim));
  v_.n_bytes = v_.codec->v_bytes(block_);
  v_.decode_codes = simd.decode_codes_v;
  if (v_.unpacks) v_.unpack = v_.codec->unpack_v(simd);
}

void SealedRun::set_side(Side& side, const KvCodec& codec, const simd::KvRun& run,
                         float* memory) const {
  side.codec = &codec;
  side.run = run;
  side.unpacks = codec.unpack_k != nullptr;
  const bool reads_codes = side.unpacks ? codec.run_scores(context_.simd) != nullptr
                                        : context_.simd.run_scores_codes != nullptr;
  side.decodes = !codec.is_read_as_stored() && !(are_few_ && reads_codes);
  const std::size_t n_elements = std::size_t{block_.block_tokens} * block_.head_dim;
  side.decoded_bytes = side.unpacks ? simd::integer_part_bytes(block_) : 2 * n_elements;
  side.n_decoded = 0;
  side.scales = memory;
  side.rows = reinterpret_cast<std::byte*>(memory + kRunTokens);
}

void SealedRun::decode(Side& side, std::size_t n_blocks) const {
  for (std::size_t& b = side.n_decoded; b < n_blocks; ++b) {
    const std::byte* const part = side.run.parts[b];
    if (b + kFetchedAhead < side.run.n_blocks + side.run.n_next) {
      context_.simd.fetch(side.run.parts[b + kFetchedAhead], side.n_bytes);
    }
    std::byte* const to = side.rows + b * side.decoded_bytes;
    side.parts[b] = to;
    if (side.unpacks) {
      side.unpack(part, block_, to);
      continue;
    }
    if (side.codec->before_rope != nullptr) {
      const KeyPlace place{place_.kv_head, place_.block + static_cast<std::uint32_t>(b)};
      decode_keys(context_.simd, key_coding(context_.layout, block_.head_dim, place), part, block_,
                  to);
      continue;
    }
    const simd::CodeBook& codes = *side.codec->codes;
    side.decode_codes(codes, part, block_, to);
    if (side.codec->row_scales == nullptr) continue;
    context_.simd.read_halves(part + side.codec->row_scales(block_), block_.block_tokens,
                              side.scales + b * block_.block_tokens);
  }
}

void SealedRun::scores(const float* q, std::size_t n_blocks, simd::ScoreTile scores) {
  const simd::Table& simd = context_.simd;
  if (!k_.decodes) {
    const simd::KvRun run = coded_parts(k_, n_blocks);
    if (k_.codec->codes != nullptr) {
      simd.run_scores_codes(*k_.codec->codes, q, run, block_, scores);
    } else {
      k_.codec->run_scores(simd)(q, run, block_, scores);
    }
    return;
  }
  decode(k_, n_blocks);
  const auto run_scores = k_.unpacks ? simd.run_scores_integers : context_.scores;
  run_scores(q, {k_.parts.data(), n_blocks, 0}, block_, scores);
  if (k_.codec->row_scales == nullptr) return;
  for (std::size_t i = 0; i < scores.n_q; ++i) {
    simd.multiply(k_.scales, scores.data + i * scores.stride, n_blocks * block_.block_tokens);
  }
}

void SealedRun::fetch_scales(std::size_t n_blocks) const {
  if (v_.codec->row_scales == nullptr && v_.codec->codes == nullptr) return;
  const std::size_t begin = v_.codec->row_scales != nullptr
                                ? v_.codec->row_scales(block_)
                                : simd::code_bytes(*v_.codec->codes, block_);
  for (std::size_t b = 0; b < n_blocks; ++b) {
    context_.simd.fetch(v_.run.parts[b] + begin, v_.n_bytes - begin);
  }
}

void SealedRun::accumulate(simd::ScoreTile weights, std::size_t n_blocks, float* out) {
  const simd::Table& simd = context_.simd;
  const auto n_tokens = static_cast<std::uint32_t>(n_blocks * block_.block_tokens);
  if (!v_.decodes) {
    const simd::KvRun run = coded_parts(v_, n_blocks);
    if (v_.codec->codes != nullptr) {
      simd.run_accumulate_codes(*v_.codec->codes, weights, run, block_, n_tokens, out);
    } else {
      v_.codec->run_accumulate(simd)(weights, run, block_, n_tokens, out);
    }
    return;
  }
  decode(v_, n_blocks);
  for (std::size_t i = 0; v_.codec->row_scales != nullptr && i < weights.n_q; ++i) {
    simd.multiply(v_.scales, weights.data + i * weights.stride, n_tokens);
  }
  const auto run_accumulate = v_.unpacks ? simd.run_accumulate_integers : context_.accumulate;
  run_accumulate(weights, {v_.parts.data(), n_blocks, 0}, block_, n_tokens, out);
}

}  // namespace larder
