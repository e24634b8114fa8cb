#include "model/arch/gemma_layout.h"

#include <cmath>

#include "base/fail.h"
#include "model/arch/json_fields.h"
#include "model/arch/tensor_names.h"
#include "model/io/gguf.h"

namespace larder {
namespace {

float inverse_root(float x) { return 1.0F / std::sqrt(x); }

}  // namespace

void set_gemma_switches(ModelConfig& config) {
  // `transformers` rounds this root to the type of the weights (59.75 instead of 59.867 for 3584 in
  // bf16); llama.cpp and a float32 run do not, and neither do we: our activations are floats.
  config.embedding_scale = std::sqrt(static_cast<float>(config.n_embd));
  config.activation = Activation::gelu_tanh;
  config.post_norms = true;
}

float gemma_attention_scale(const ModelConfig& config, std::uint32_t n_layers_27b) {
  const std::uint32_t width =
      config.n_layers == n_layers_27b ? config.n_embd / config.n_heads : config.head_dim;
  return inverse_root(static_cast<float>(width));
}

Result<void> gemma_scale_from_gguf(const GgufMetadata& metadata, std::uint32_t n_layers_27b,
                                   ModelConfig& config) {
  LARDER_ASSIGN(config.attention_scale,
                metadata.f32_or(config.arch + ".attention.scale",
                                gemma_attention_scale(config, n_layers_27b)));
  return {};
}

void gemma_scale_to_gguf(const ModelConfig& config, std::uint32_t n_layers_27b,
                         GgufWriter& writer) {
  if (config.attention_scale == gemma_attention_scale(config, n_layers_27b)) return;
  writer.put(config.arch + ".attention.scale", GgufType::f32,
             static_cast<double>(config.attention_scale));
}

Result<void> gemma_scale_from_hf(const JsonFields& fields, ModelConfig& config) {
  LARDER_ASSIGN(const auto scalar, fields.f32_or("query_pre_attn_scalar", 256.0F));
  if (!(scalar > 0)) {
    return fail(Errc::corrupt, "{}: field 'query_pre_attn_scalar' is {}, expected more than 0",
                fields.origin(), scalar);
  }
  config.attention_scale = inverse_root(scalar);
  return {};
}

std::optional<std::string> gemma_tensor_name(std::string_view hf_name) {
  return canonical_tensor_name(hf_name, NormNames::pre_and_post);
}

TensorChange gemma_tensor_change(std::string_view canonical_name) {
  return canonical_name.ends_with("norm.weight") ? TensorChange::add_one : TensorChange::none;
}

}  // namespace larder
