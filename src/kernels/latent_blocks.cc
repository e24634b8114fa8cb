#include "kernels/latent_blocks.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/mla_tile.h"

namespace larder {
namespace {

constexpr std::size_t whole_lines(std::size_t n) { return (n + 15) / 16 * 16; }

std::size_t widest_part(const LatentShape& s) { return std::max(s.kv_rank, s.rope_dim); }
std::size_t value_floats(const LatentShape& s) {
  return whole_lines(kMaxBlockTokens * widest_part(s) / 2);
}

}  // namespace

LatentBlock latent_block(const LatentShape& shape, const KvLayout& layout,
                         const AttentionItem& step, std::uint32_t block, bool is_own) noexcept {
  const KvRows& cached = step.heads[0];
  const std::size_t index = block - cached.first_block;
  const auto in_table = [&](std::size_t i) {
    return i < cached.blocks.size() ? layout.pool + to_offset(cached.blocks[i]) : nullptr;
  };
  if (layout.seals() && is_own) {
    return {open_block(layout, step, {0, 1, block, shape.block_tokens}), nullptr, true};
  }
  LARDER_DCHECK(index < cached.blocks.size());
  return {in_table(index), in_table(index + 1), layout.seals() && layout.is_raw(block)};
}

std::size_t LatentBlockReader::n_floats(const LatentShape& s) {
  return value_floats(s) + kMaxBlockTokens + kLatentTile * kMaxBlockTokens;
}

LatentBlockReader::LatentBlockReader(const simd::Table& simd, const LatentShape& shape,
                                     const KvLayout& layout, float* memory)
    : simd_(simd),
      s_(shape),
      layout_(layout),
      parts_(shape.parts()),
      values_(memory),
      scales_(values_ + value_floats(shape)),
      sums_(scales_ + kMaxBlockTokens) {}

LatentBlockReader::Decoded LatentBlockReader::decode(const KvCodec& codec, const std::byte* part,
                                                     simd::BlockShape shape, bool is_key) const {
  if (codec.is_raw()) return {part, &codec};
  auto* const values = reinterpret_cast<std::byte*>(values_);
  const KvCodec* const bf16 = &kv_codec(KvFormat::bf16);
  if (codec.codes == nullptr) {
    const auto rows = is_key ? codec.decode_k : codec.decode_v;
    rows(simd_)(part, shape, values);
  } else {
    (is_key ? simd_.decode_codes_k : simd_.decode_codes_v)(*codec.codes, part, shape, values);
  }
  if (codec.row_scales == nullptr) return {values, bf16, true};
  simd_.read_halves(part + codec.row_scales(shape), shape.block_tokens, scales_);
  return {values, bf16, true, true};
}

LatentBlockReader::Decoded LatentBlockReader::key_part(const LatentBlock& block) const {
  return decode(block.is_open ? *layout_.open_k : *layout_.k, block.data, parts_.k, true);
}

LatentBlockReader::Decoded LatentBlockReader::latent_part(const LatentBlock& block) const {
  if (block.is_open) {
    return decode(*layout_.open_v, block.data + layout_.open_v_offset, parts_.v, false);
  }
  return decode(*layout_.v, block.data + layout_.v_offset, parts_.v, false);
}

void LatentBlockReader::scores(const float* q_latent, const float* q_rope, const LatentBlock& block,
                               simd::ScoreTile scores) const {
  LARDER_DCHECK(scores.n_q <= kLatentTile);
  const std::size_t n = s_.block_tokens;
  const simd::ScoreTile of_keys{sums_, scores.n_q, n};
  key_scores(q_rope, block, of_keys);
  const Decoded latents = latent_part(block);
  const std::byte* const next =
      latents.decoded || block.next == nullptr ? nullptr : block.next + layout_.v_offset;
  if (latents.decoded && block.next != nullptr) {
    simd_.fetch(block.next, layout_.v_offset + layout_.v->v_bytes(parts_.v));
  }
  latents.codec->row_scores(simd_)(q_latent, {latents.part, next}, parts_.v, scores);
  for (std::size_t i = 0; i < scores.n_q; ++i) {
    float* const row = scores.data + i * scores.stride;
    const float* const key = sums_ + i * n;
    if (latents.scaled) {
      for (std::size_t t = 0; t < n; ++t) row[t] = row[t] * scales_[t] + key[t];
    } else {
      for (std::size_t t = 0; t < n; ++t) row[t] += key[t];
    }
  }
}

void LatentBlockReader::key_scores(const float* q, const LatentBlock& block,
                                   simd::ScoreTile scores) const {
  const std::size_t n = s_.block_tokens;
  const Decoded keys = key_part(block);
  keys.codec->scores(simd_)(q, {keys.part, nullptr}, parts_.k, scores);
  if (!keys.scaled) return;
  for (std::size_t i = 0; i < scores.n_q; ++i) simd_.multiply(scales_, scores.data + i * n, n);
}

void LatentBlockReader::accumulate(simd::ScoreTile weights, const LatentBlock& block,
                                   std::uint32_t n_tokens, float* out) const {
  const Decoded latents = latent_part(block);
  for (std::size_t i = 0; i < weights.n_q && latents.scaled; ++i) {
    simd_.multiply(scales_, weights.data + i * weights.stride, n_tokens);
  }
  const std::byte* const next =
      latents.decoded || block.next == nullptr ? nullptr : block.next + layout_.v_offset;
  latents.codec->accumulate(simd_)(weights, {latents.part, next}, parts_.v, n_tokens, out);
}

void LatentBlockReader::read(const LatentBlock& block, std::uint32_t n_tokens, float* latents,
                             float* keys) const {
  const auto scale = [this](const Decoded& part, std::size_t token, float* row, std::size_t n) {
    if (part.scaled) simd_.scale(scales_[token], row, n);
  };
  const Decoded of_keys = key_part(block);
  for (std::uint32_t t = 0; t < n_tokens; ++t) {
    float* const row = keys + std::size_t{t} * s_.rope_dim;
    of_keys.codec->read_k(of_keys.part, t, parts_.k, row);
    scale(of_keys, t, row, s_.rope_dim);
  }
  const Decoded of_latents = latent_part(block);
  for (std::uint32_t t = 0; t < n_tokens; ++t) {
    float* const row = latents + std::size_t{t} * s_.kv_rank;
    of_latents.codec->read_v(of_latents.part, t, parts_.v, row);
    scale(of_latents, t, row, s_.kv_rank);
  }
  if (layout_.v->rotates) simd_.hadamard(latents, n_tokens, s_.kv_rank);
}

}  // namespace larder
