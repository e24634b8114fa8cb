#include "model/arch/latent_keys.h"

#include <string>

#include "base/fail.h"
#include "model/arch/json_fields.h"
#include "model/io/gguf.h"

namespace larder {
namespace {

void settle(ModelConfig& config) {
  config.head_dim = config.latent.nope_dim + config.latent.rope_dim;
  config.n_kv_heads = 1;
}

}  // namespace

Result<void> latent_from_gguf(const GgufMetadata& metadata, ModelConfig& config) {
  const std::string p = config.arch + ".attention.";
  LatentConfig& latent = config.latent;
  LARDER_ASSIGN(latent.kv_rank, metadata.u32(p + "kv_lora_rank"));
  LARDER_ASSIGN(latent.q_rank, metadata.u32_or(p + "q_lora_rank", 0));
  LARDER_ASSIGN(latent.rope_dim, metadata.u32(config.arch + ".rope.dimension_count"));
  const bool newer = metadata.has(p + "key_length_mla");
  LARDER_ASSIGN(const auto key_length, metadata.u32(p + (newer ? "key_length_mla" : "key_length")));
  LARDER_ASSIGN(latent.v_dim, metadata.u32(p + (newer ? "value_length_mla" : "value_length")));
  if (latent.kv_rank == 0 || key_length <= latent.rope_dim) {
    return fail(Errc::corrupt,
                "{}: keys '{}kv_lora_rank' = {} and '{}' = {}, expected more than 0 and more than "
                "the {} channels with rope",
                metadata.origin(), p, latent.kv_rank, newer ? "key_length_mla" : "key_length",
                key_length, latent.rope_dim);
  }
  latent.nope_dim = key_length - latent.rope_dim;
  settle(config);
  return {};
}

void latent_to_gguf(const ModelConfig& config, GgufWriter& writer) {
  const std::string p = config.arch + ".attention.";
  const auto put = [&](std::string_view key, std::uint32_t value) {
    writer.put(p + std::string(key), GgufType::u32, std::uint64_t{value});
  };
  const LatentConfig& latent = config.latent;
  put("kv_lora_rank", latent.kv_rank);
  if (latent.q_rank != 0) put("q_lora_rank", latent.q_rank);
  put("key_length", latent.row_dim());
  put("value_length", latent.kv_rank);
  put("key_length_mla", config.head_dim);
  put("value_length_mla", latent.v_dim);
}

Result<void> latent_from_hf(const JsonFields& fields, ModelConfig& config) {
  LatentConfig& latent = config.latent;
  LARDER_ASSIGN(latent.kv_rank, fields.u32("kv_lora_rank"));
  LARDER_ASSIGN(latent.q_rank, fields.u32_or("q_lora_rank", 0));
  LARDER_ASSIGN(latent.nope_dim, fields.u32("qk_nope_head_dim"));
  LARDER_ASSIGN(latent.rope_dim, fields.u32("qk_rope_head_dim"));
  LARDER_ASSIGN(latent.v_dim, fields.u32("v_head_dim"));
  constexpr std::uint32_t kMost = 1U << 16;  // so that sums of two do not wrap
  if (latent.kv_rank == 0 || latent.kv_rank > kMost || latent.nope_dim > kMost ||
      latent.rope_dim > kMost) {
    return fail(Errc::corrupt,
                "{}: kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim are {}, {}, {}",
                fields.origin(), latent.kv_rank, latent.nope_dim, latent.rope_dim);
  }
  settle(config);
  return {};
}

}  // namespace larder
