// Qwen 3: RMS norms on every q and k head before rope; no biases.
#include <array>

#include "base/fail.h"
#include "model/arch/families.h"
#include "model/arch/json_fields.h"
#include "model/arch/qwen_windows.h"
#include "model/arch/tensor_names.h"
#include "model/arch/windows.h"
#include "model/io/gguf.h"

namespace larder {
namespace {

constexpr auto kHfNames = std::to_array<std::string_view>({"Qwen3ForCausalLM", "qwen3"});

Result<void> from_gguf(const GgufMetadata& metadata, ModelConfig& config) {
  config.qk_norm = true;
  return windows_from_gguf(metadata, 0, 0, config);
}

Result<void> from_hf(const JsonFields& fields, ModelConfig& config) {
  config.qk_norm = true;
  return qwen_windows_from_hf(fields, config);
}

void to_gguf(const ModelConfig& config, GgufWriter& writer) { windows_to_gguf(config, 0, writer); }

std::optional<std::string> tensor_name(std::string_view hf_name) {
  return canonical_tensor_name(hf_name, NormNames::pre_only);
}

TensorChange tensor_change(std::string_view) { return TensorChange::none; }

}  // namespace

const Arch kQwen3 = {"qwen3", kHfNames, from_gguf, from_hf, to_gguf, tensor_name, tensor_change};

}  // namespace larder
