// Mistral: Llama with an optional sliding window on every layer.
#include <array>

#include "base/fail.h"
#include "model/arch/families.h"
#include "model/arch/json_fields.h"
#include "model/arch/llama_layout.h"
#include "model/arch/windows.h"
#include "model/io/gguf.h"

namespace larder {
namespace {

constexpr auto kHfNames = std::to_array<std::string_view>({"MistralForCausalLM", "mistral"});

Result<void> from_hf(const JsonFields& fields, ModelConfig& config) {
  LARDER_TRY(check_llama_rope(fields.origin(), config));
  LARDER_ASSIGN(const auto window, fields.u32_or("sliding_window", 0));
  set_windows(config, window, windows_with_period(config.n_layers, 0));
  return {};
}

}  // namespace

const Arch kMistral = {"llama",       kHfNames,          llama_from_gguf,    from_hf,
                       llama_to_gguf, llama_tensor_name, llama_tensor_change};

}  // namespace larder
