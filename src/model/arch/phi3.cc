// Phi-3 and Phi-4-mini: q, k and v in one matrix, gate and up in one matrix, long rope.
#include <array>

#include "base/fail.h"
#include "model/arch/families.h"
#include "model/arch/json_fields.h"
#include "model/arch/tensor_names.h"
#include "model/arch/windows.h"
#include "model/io/gguf.h"

namespace larder {
namespace {

constexpr auto kHfNames = std::to_array<std::string_view>({"Phi3ForCausalLM", "phi3"});

void set_switches(ModelConfig& config) {
  config.fused_qkv = true;
  config.fused_gate_up = true;
}

Result<void> from_gguf(const GgufMetadata& metadata, ModelConfig& config) {
  set_switches(config);
  return windows_from_gguf(metadata, 0, 0, config);
}

Result<void> from_hf(const JsonFields& fields, ModelConfig& config) {
  set_switches(config);
  LARDER_ASSIGN(const auto window, fields.u32_or("sliding_window", 0));
  set_windows(config, window, windows_with_period(config.n_layers, 0));
  return {};
}

void to_gguf(const ModelConfig& config, GgufWriter& writer) { windows_to_gguf(config, 0, writer); }

std::optional<std::string> tensor_name(std::string_view hf_name) {
  return canonical_tensor_name(hf_name, NormNames::pre_only);
}

TensorChange tensor_change(std::string_view) { return TensorChange::none; }

}  // namespace

const Arch kPhi3 = {"phi3", kHfNames, from_gguf, from_hf, to_gguf, tensor_name, tensor_change};

}  // namespace larder
