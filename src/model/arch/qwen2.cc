// Qwen 2 and 2.5: Llama with biases on q, k and v, and rope on halves in every file kind.
#include <array>

#include "model/arch/families.h"
#include "model/arch/json_fields.h"
#include "model/arch/qwen_windows.h"
#include "model/arch/tensor_names.h"
#include "model/arch/windows.h"
#include "model/io/gguf.h"

namespace larder {
namespace {

constexpr auto kHfNames = std::to_array<std::string_view>({"Qwen2ForCausalLM", "qwen2"});

Result<void> from_gguf(const GgufMetadata& metadata, ModelConfig& config) {
  return windows_from_gguf(metadata, 0, 0, config);
}

void to_gguf(const ModelConfig& config, GgufWriter& writer) { windows_to_gguf(config, 0, writer); }

std::optional<std::string> tensor_name(std::string_view hf_name) {
  return canonical_tensor_name(hf_name, NormNames::pre_only);
}

TensorChange tensor_change(std::string_view) { return TensorChange::none; }

}  // namespace

const Arch kQwen2 = {"qwen2", kHfNames,    from_gguf,    qwen_windows_from_hf,
                     to_gguf, tensor_name, tensor_change};

}  // namespace larder
