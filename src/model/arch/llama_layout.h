// What the two families that GGUF calls "llama" share.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "larder/result.h"
#include "model/arch/arch.h"
#include "model/config.h"

namespace larder {

/// Refuses heads of which only a part rotates: the rows of q and k could not be permuted.
Result<void> check_llama_rope(const std::string& origin, const ModelConfig& config);
std::optional<std::string> llama_tensor_name(std::string_view hf_name);
TensorChange llama_tensor_change(std::string_view canonical_name);
/// A window in a "llama" file is Mistral's; llama.cpp writes the key and then ignores it.
Result<void> llama_from_gguf(const GgufMetadata& metadata, ModelConfig& config);
void llama_to_gguf(const ModelConfig& config, GgufWriter& writer);

}  // namespace larder
