#include "kernels/sealed_run.h"

namespace larder {
namespace {

// Decoding a part once and reading that again pays from about this many queries on.
constexpr std::size_t kFewQueries = 8;
constexpr std::size_t kFetchedAhead = 4;  // parts

}  // namespace

SealedRun::SealedRun(const AttentionContext& context, const simd::KvRun& k, const simd::KvRun& v,
                     const KeyPlace& place, std::size_t n_queries, float* decoded)
    : context_(context),
      block_{context.shape.block_tokens, context.shape.head_dim},
      place_(place),
      are_few_(n_queries <= kFewQueries),
      k_(*this, *context.layout.k, k, true, decoded),
      v_(*this, *context.layout.v, v, false, decoded + side_floats(block_.head_dim)) {}

SealedRun::Side::Side(const SealedRun& of, const KvCodec& its_codec, const simd::KvRun& its_run,
                      bool is_key, float* memory)
    : codec(its_codec),
      run(its_run),
      decoded(of.context_.simd, codec, of.block_, is_key),
      is_joined(!of.are_few_ && decoded.are_joined()),
      decodes(is_joined || (!codec.is_read_as_stored() && !(of.are_few_ && of.multiplies(codec)))),
      n_bytes((is_key ? codec.k_bytes : codec.v_bytes)(of.block_)),
      scales(memory),
      rows(reinterpret_cast<std::byte*>(memory + kRunTokens)) {}

bool SealedRun::multiplies(const KvCodec& codec) const {
  if (codec.before_rope != nullptr) return false;
  return codec.codes != nullptr ? context_.simd.run_scores_codes != nullptr
                                : codec.run_scores(context_.simd) != nullptr;
}

void SealedRun::decode(Side& side, std::size_t n_blocks) const {
  const std::size_t decoded_bytes = side.decoded.n_bytes();
  for (std::size_t& b = side.n_decoded; b < n_blocks; ++b) {
    const std::byte* const part = side.run.parts[b];
    if (b + kFetchedAhead < side.run.n_blocks + side.run.n_next) {
      context_.simd.fetch(side.run.parts[b + kFetchedAhead], side.n_bytes);
    }
    if (side.is_joined) {
      side.decoded.join(part, b * block_.block_tokens, kRunTokens, side.rows);
      continue;
    }
    std::byte* const to = side.rows + b * decoded_bytes;
    side.parts[b] = to;
    if (side.codec.before_rope == nullptr) {
      side.decoded.decode(part, to, side.scales + b * block_.block_tokens);
      continue;
    }
    const KeyPlace place{place_.kv_head, place_.block + static_cast<std::uint32_t>(b)};
    decode_keys(context_.simd, key_coding(context_.layout, block_.head_dim, place), part, block_,
                to);
  }
}

void SealedRun::scores(const float* q, std::size_t n_blocks, simd::ScoreTile scores) {
  const simd::Table& simd = context_.simd;
  if (!k_.decodes) {
    const simd::KvRun run = coded_parts(k_, n_blocks);
    if (k_.codec.codes != nullptr) {
      simd.run_scores_codes(*k_.codec.codes, q, run, block_, scores);
    } else {
      k_.codec.run_scores(simd)(q, run, block_, scores);
    }
    return;
  }
  decode(k_, n_blocks);
  k_.decoded.run_scores()(q, {k_.parts.data(), n_blocks, 0}, block_, scores);
  if (!k_.decoded.has_scales_apart()) return;
  for (std::size_t i = 0; i < scores.n_q; ++i) {
    simd.multiply(k_.scales, scores.data + i * scores.stride, n_blocks * block_.block_tokens);
  }
}

void SealedRun::fetch_scales(std::size_t n_blocks) const {
  if (v_.codec.row_scales == nullptr && v_.codec.codes == nullptr) return;
  const std::size_t begin = v_.codec.row_scales != nullptr
                                ? v_.codec.row_scales(block_)
                                : simd::code_bytes(*v_.codec.codes, block_);
  for (std::size_t b = 0; b < n_blocks; ++b) {
    context_.simd.fetch(v_.run.parts[b] + begin, v_.n_bytes - begin);
  }
}

void SealedRun::accumulate(simd::ScoreTile weights, std::size_t n_blocks, float* out) {
  const simd::Table& simd = context_.simd;
  const auto n_tokens = static_cast<std::uint32_t>(n_blocks * block_.block_tokens);
  if (!v_.decodes) {
    const simd::KvRun run = coded_parts(v_, n_blocks);
    if (v_.codec.codes != nullptr) {
      simd.run_accumulate_codes(*v_.codec.codes, weights, run, block_, n_tokens, out);
    } else {
      v_.codec.run_accumulate(simd)(weights, run, block_, n_tokens, out);
    }
    return;
  }
  decode(v_, n_blocks);
  if (v_.is_joined) {
    const std::byte* const part = v_.rows;
    return v_.decoded.run_accumulate()(weights, {&part, 1, 0}, {kRunTokens, block_.head_dim},
                                       n_tokens, out);
  }
  for (std::size_t i = 0; v_.decoded.has_scales_apart() && i < weights.n_q; ++i) {
    simd.multiply(v_.scales, weights.data + i * weights.stride, n_tokens);
  }
  v_.decoded.run_accumulate()(weights, {v_.parts.data(), n_blocks, 0}, block_, n_tokens, out);
}

}  // namespace larder
