// Llama 2 and 3.x: the plain case. GGUF files of this family hold q and k rows in adjacent pairs.
#include <array>

#include "base/fail.h"
#include "model/arch/families.h"
#include "model/arch/json_fields.h"
#include "model/arch/llama_layout.h"
#include "model/arch/tensor_names.h"
#include "model/arch/windows.h"
#include "model/io/gguf.h"

namespace larder {

Result<void> check_llama_rope(const std::string& origin, const ModelConfig& config) {
  if (config.rope.n_rot == config.head_dim) return {};
  return fail(Errc::unsupported, "{}: {} of {} channels of a head rotate, {} rotates all", origin,
              config.rope.n_rot, config.head_dim, config.arch);
}

std::optional<std::string> llama_tensor_name(std::string_view hf_name) {
  return canonical_tensor_name(hf_name, NormNames::pre_only);
}

TensorChange llama_tensor_change(std::string_view canonical_name) {
  const auto is = [&](std::string_view part) {
    return canonical_name.ends_with(std::string(part) + ".weight") ||
           canonical_name.ends_with(std::string(part) + ".bias");
  };
  if (is(".attn_q")) return TensorChange::permute_q;
  if (is(".attn_k")) return TensorChange::permute_k;
  return TensorChange::none;
}

Result<void> llama_from_gguf(const GgufMetadata& metadata, ModelConfig& config) {
  LARDER_TRY(check_llama_rope(metadata.origin(), config));
  return windows_from_gguf(metadata, 0, 0, config);
}

void llama_to_gguf(const ModelConfig& config, GgufWriter& writer) {
  windows_to_gguf(config, 0, writer);
}

namespace {

constexpr auto kHfNames = std::to_array<std::string_view>({"LlamaForCausalLM", "llama"});

Result<void> from_hf(const JsonFields& fields, ModelConfig& config) {
  return check_llama_rope(fields.origin(), config);
}

}  // namespace

const Arch kLlama = {"llama",       kHfNames,          llama_from_gguf,    from_hf,
                     llama_to_gguf, llama_tensor_name, llama_tensor_change};

}  // namespace larder
