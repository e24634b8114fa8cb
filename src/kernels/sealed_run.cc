#include "kernels/sealed_run.h"

namespace larder {
namespace {

// Decoding a part once and reading it again as bf16 pays from about this many queries on.
constexpr std::size_t kFewQueries = 8;
constexpr std::size_t kFetchedAhead = 4;  // parts

bool has_row_scales(const KvCodec& codec) {
  return codec.codes != nullptr && codec.codes->fit != simd::CodeFit::range;
}

}  // namespace

SealedRun::SealedRun(const AttentionContext& context, const simd::KvRun& k, const simd::KvRun& v,
                     const KeyPlace& place, std::size_t n_queries, float* decoded)
    : context_(context),
      block_{context.shape.block_tokens, context.shape.head_dim},
      place_(place),
      in_registers_(n_queries <= kFewQueries && context.simd.run_scores_codes != nullptr) {
  set_side(k_, *context.layout.k, k, decoded);
  k_.n_bytes = k_.codec->k_bytes(block_);
  k_.decode_codes = context.simd.decode_codes_k;
  if (k_.codec->decode_k != nullptr) k_.decode_rows = k_.codec->decode_k(context.simd);
  if (k_.codec->before_rope != nullptr) k_.decodes = true;
  set_side(v_, *context.layout.v, v, decoded + side_floats(block_.head_dim));
  v_.n_bytes = v_.codec->v_bytes(block_);
  v_.decode_codes = context.simd.decode_codes_v;
  if (v_.codec->decode_v != nullptr) v_.decode_rows = v_.codec->decode_v(context.simd);
}

void SealedRun::set_side(Side& side, const KvCodec& codec, const simd::KvRun& run,
                         float* memory) const {
  side.codec = &codec;
  side.run = run;
  side.decode_rows = nullptr;
  side.decodes = codec.codes != nullptr ? !in_registers_ : codec.decode_k != nullptr;
  side.has_scales = has_row_scales(codec);
  side.n_decoded = 0;
  side.scales = memory;
  side.rows = reinterpret_cast<std::byte*>(memory + kRunTokens);
}

void SealedRun::decode(Side& side, std::size_t n_blocks) const {
  const std::size_t part_bytes = std::size_t{block_.block_tokens} * block_.head_dim * 2;
  for (std::size_t& b = side.n_decoded; b < n_blocks; ++b) {
    const std::byte* const part = side.run.parts[b];
    if (b + kFetchedAhead < side.run.n_blocks + side.run.n_next) {
      context_.simd.fetch(side.run.parts[b + kFetchedAhead], side.n_bytes);
    }
    std::byte* const to = side.rows + b * part_bytes;
    side.parts[b] = to;
    if (side.decode_rows != nullptr) {
      side.decode_rows(part, block_, to);
      continue;
    }
    if (side.codec->before_rope != nullptr) {
      const KeyPlace place{place_.kv_head, place_.block + static_cast<std::uint32_t>(b)};
      decode_keys(context_.simd, key_coding(context_.layout, block_.head_dim, place), part, block_,
                  side.rows + b * part_bytes);
      continue;
    }
    const simd::CodeBook& codes = *side.codec->codes;
    side.decode_codes(codes, part, block_, to);
    if (!side.has_scales) continue;
    context_.simd.read_halves(part + simd::code_bytes(codes, block_), block_.block_tokens,
                              side.scales + b * block_.block_tokens);
  }
}

void SealedRun::scores(const float* q, std::size_t n_blocks, simd::ScoreTile scores) {
  if (!k_.decodes) {
    const simd::KvRun run{k_.run.parts, n_blocks, k_.run.n_blocks - n_blocks + k_.run.n_next};
    if (k_.codec->codes != nullptr) {
      context_.simd.run_scores_codes(*k_.codec->codes, q, run, block_, scores);
    } else {
      context_.scores(q, run, block_, scores);
    }
    return;
  }
  decode(k_, n_blocks);
  context_.scores(q, {k_.parts.data(), n_blocks, 0}, block_, scores);
  for (std::size_t i = 0; k_.has_scales && i < scores.n_q; ++i) {
    context_.simd.multiply(k_.scales, scores.data + i * scores.stride,
                           n_blocks * block_.block_tokens);
  }
}

void SealedRun::fetch_scales(std::size_t n_blocks) const {
  if (v_.codec->codes == nullptr) return;
  const std::size_t begin = simd::code_bytes(*v_.codec->codes, block_);
  for (std::size_t b = 0; b < n_blocks; ++b) {
    context_.simd.fetch(v_.run.parts[b] + begin, v_.n_bytes - begin);
  }
}

void SealedRun::accumulate(simd::ScoreTile weights, std::size_t n_blocks, float* out) {
  const auto n_tokens = static_cast<std::uint32_t>(n_blocks * block_.block_tokens);
  if (!v_.decodes) {
    const simd::KvRun run{v_.run.parts, n_blocks, v_.run.n_blocks - n_blocks + v_.run.n_next};
    if (v_.codec->codes != nullptr) {
      context_.simd.run_accumulate_codes(*v_.codec->codes, weights, run, block_, n_tokens, out);
    } else {
      context_.accumulate(weights, run, block_, n_tokens, out);
    }
    return;
  }
  decode(v_, n_blocks);
  for (std::size_t i = 0; v_.has_scales && i < weights.n_q; ++i) {
    context_.simd.multiply(v_.scales, weights.data + i * weights.stride, n_tokens);
  }
  context_.accumulate(weights, {v_.parts.data(), n_blocks, 0}, block_, n_tokens, out);
}

}  // namespace larder
