// What Gemma 2 and 3 share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "larder/result.h"
#include "model/arch/arch.h"
#include "model/config.h"

namespace larder {

/// Scaled embeddings, tanh GELU, norms before and after each part.
void set_gemma_switches(ModelConfig& config);

/// GGUF has no key for the scale of these families' scores: llama.cpp takes 1 / sqrt(head_dim),
/// but 1 / sqrt(n_embd / n_heads) for the 27B model, which it knows by its number of layers.
float gemma_attention_scale(const ModelConfig& config, std::uint32_t n_layers_27b);
/// ARCH.attention.scale, which we write where that rule would be wrong.
Result<void> gemma_scale_from_gguf(const GgufMetadata& metadata, std::uint32_t n_layers_27b,
                                   ModelConfig& config);
void gemma_scale_to_gguf(const ModelConfig& config, std::uint32_t n_layers_27b, GgufWriter& writer);
/// query_pre_attn_scalar.
Result<void> gemma_scale_from_hf(const JsonFields& fields, ModelConfig& config);

std::optional<std::string> gemma_tensor_name(std::string_view hf_name);
TensorChange gemma_tensor_change(std::string_view canonical_name);

}  // namespace larder
