#include "kernels/sealed_run.h"

namespace larder {
namespace {

// Decoding a part once and reading it again as bf16 pays from about this many queries on.
constexpr std::size_t kFewQueries = 8;
constexpr std::size_t kFetchedAhead = 4;  // parts

void multiply(const float* scales, std::size_t n, simd::ScoreTile tile) {
  for (std::size_t i = 0; i < tile.n_q; ++i) {
    float* row = tile.data + i * tile.stride;
    for (std::size_t t = 0; t < n; ++t) row[t] *= scales[t];
  }
}

}  // namespace

SealedRun::SealedRun(const AttentionContext& context, const simd::KvRun& k, const simd::KvRun& v,
                     const KeyPlace& place, std::size_t n_queries, float* decoded)
    : context_(context),
      block_{context.shape.block_tokens, context.shape.head_dim},
      place_(place),
      few_(n_queries <= kFewQueries && context.simd.run_scores_codes != nullptr),
      scaled_(decoded + 2 * side_floats(block_.head_dim)) {
  set_side(k_, *context.layout.k, k, decoded);
  k_.n_bytes = k_.codec->k_bytes(block_);
  k_.decode_codes = context.simd.decode_codes_k;
  if (k_.codec->decode_k != nullptr) k_.decode_rows = k_.codec->decode_k(context.simd);
  if (k_.codec->before_rope != nullptr) k_.decodes = true;
  if (has_ranges(k_)) k_.n_groups = block_.head_dim;
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
  side.decodes = codec.codes != nullptr ? !few_ : codec.decode_k != nullptr;
  side.n_decoded = 0;
  side.n_groups = block_.block_tokens;
  side.scales = memory;
  side.zeros = memory + kRunTokens + kMaxRunBlocks * std::size_t{block_.head_dim};
  side.rows = reinterpret_cast<std::byte*>(memory + 2 * kRunTokens +
                                           2 * kMaxRunBlocks * std::size_t{block_.head_dim});
}

void SealedRun::decode(Side& side, std::size_t n_blocks) const {
  const std::size_t part_bytes = std::size_t{block_.block_tokens} * block_.head_dim * 2;
  for (std::size_t& b = side.n_decoded; b < n_blocks; ++b) {
    const std::byte* part = side.run.parts[b];
    if (b + kFetchedAhead < side.run.n_blocks + side.run.n_next) {
      context_.simd.fetch(side.run.parts[b + kFetchedAhead], side.n_bytes);
    }
    side.parts[b] = side.rows + b * part_bytes;
    if (side.decode_rows != nullptr) {
      side.decode_rows(part, block_, side.rows + b * part_bytes);
      continue;
    }
    if (side.codec->before_rope != nullptr) {
      const KeyPlace place{place_.kv_head, place_.block + static_cast<std::uint32_t>(b)};
      decode_keys(context_.simd, key_coding(context_.layout, block_.head_dim, place), part, block_,
                  side.rows + b * part_bytes);
      continue;
    }
    const simd::CodeBook& codes = *side.codec->codes;
    const std::size_t n_code_bytes = simd::code_bytes(codes, block_), n = side.n_groups;
    side.decode_codes(codes, part, block_, side.rows + b * part_bytes);
    context_.simd.read_halves(part + n_code_bytes, n, side.scales + b * n);
    if (!has_ranges(side)) continue;
    context_.simd.read_halves(part + n_code_bytes + 2 * n, n, side.zeros + b * n);
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
  decode(k_, n_blocks);
  if (has_ranges(k_)) return score_ranges(q, n_blocks, scores);
  context_.scores(q, {k_.parts.data(), n_blocks, 0}, block_, scores);
  if (k_.codec->codes == nullptr) return;
  multiply(k_.scales, n_blocks * block_.block_tokens, scores);
}

// Scales and zeros of channels are the queries' matter, block by block.
void SealedRun::score_ranges(const float* q, std::size_t n_blocks, simd::ScoreTile scores) const {
  const std::size_t d = block_.head_dim, n = block_.block_tokens;
  for (std::size_t b = 0; b < n_blocks; ++b) {
    const float* const scales = k_.scales + b * d;
    for (std::size_t i = 0; i < scores.n_q; ++i) {
      for (std::size_t c = 0; c < d; ++c) scaled_[i * d + c] = q[i * d + c] * scales[c];
    }
    float* const to = scores.data + b * n;
    context_.scores(scaled_, {k_.parts.data() + b, 1, 0}, block_, {to, scores.n_q, scores.stride});
    for (std::size_t i = 0; i < scores.n_q; ++i) {
      const float added = context_.simd.dot(q + i * d, k_.zeros + b * d, d);
      for (std::size_t t = 0; t < n; ++t) to[i * scores.stride + t] += added;
    }
  }
}

// The zeros of V add the same to all channels. Block by block, so that the sum does not depend on
// how many blocks without weight come after.
void SealedRun::add_zeros(simd::ScoreTile weights, std::size_t n_blocks, float* out) {
  const std::size_t n = block_.block_tokens;
  const std::size_t n_code_bytes = simd::code_bytes(*v_.codec->codes, block_);
  if (!v_.decodes) {
    for (std::size_t b = 0; b < n_blocks; ++b) {
      context_.simd.read_halves(v_.run.parts[b] + n_code_bytes + 2 * n, n, v_.zeros + b * n);
    }
  }
  for (std::size_t i = 0; i < weights.n_q; ++i) {
    float sum = 0;
    for (std::size_t b = 0; b < n_blocks; ++b) {
      sum += context_.simd.dot(weights.data + i * weights.stride + b * n, v_.zeros + b * n, n);
    }
    float* const to = out + i * block_.head_dim;
    for (std::uint32_t c = 0; c < block_.head_dim; ++c) to[c] += sum;
  }
}

void SealedRun::accumulate(simd::ScoreTile weights, std::size_t n_blocks, float* out) {
  const auto n_tokens = static_cast<std::uint32_t>(n_blocks * block_.block_tokens);
  const std::size_t n_after = v_.run.n_blocks - n_blocks + v_.run.n_next;
  if (v_.decodes) decode(v_, n_blocks);
  if (has_ranges(v_)) add_zeros(weights, n_blocks, out);
  if (!v_.decodes) {
    const simd::KvRun run{v_.run.parts, n_blocks, n_after};
    if (v_.codec->codes != nullptr) {
      context_.simd.run_accumulate_codes(*v_.codec->codes, weights, run, block_, n_tokens, out);
    } else {
      context_.accumulate(weights, run, block_, n_tokens, out);
    }
    return;
  }
  if (v_.decode_rows == nullptr) multiply(v_.scales, n_tokens, weights);
  context_.accumulate(weights, {v_.parts.data(), n_blocks, 0}, block_, n_tokens, out);
}

}  // namespace larder
