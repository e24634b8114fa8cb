#include "model/kv_shape.h"

#include <fmt/format.h>

#include "simd/simd.h"

namespace larder {
namespace {

using Refusal = std::string (*)(BlockShape shape);

std::string refusal(Refusal of_codec, BlockShape shape) {
  if (of_codec == nullptr) return "";
  // Encoders have room for heads; a latent may be wider.
  if (shape.head_dim > simd::kMaxHeadDim) {
    return fmt::format("rows of {} channels are wider than {}", shape.head_dim, simd::kMaxHeadDim);
  }
  return of_codec(shape);
}

}  // namespace

KvShape kv_shape(const ModelConfig& config, std::uint32_t block_tokens) noexcept {
  if (config.has_latent()) {
    return {{block_tokens, config.latent.rope_dim}, {block_tokens, config.latent.kv_rank}};
  }
  return BlockShape{block_tokens, config.head_dim};
}

std::string refusal_of_k(const KvCodec& codec, const KvShape& shape) {
  return refusal(codec.refusal_k, shape.k);
}
std::string refusal_of_v(const KvCodec& codec, const KvShape& shape) {
  return refusal(codec.refusal_v, shape.v);
}

}  // namespace larder
