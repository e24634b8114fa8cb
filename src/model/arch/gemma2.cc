// Gemma 2: soft caps on scores and logits, every other layer with a sliding window.
#include <array>

#include "base/fail.h"
#include "model/arch/families.h"
#include "model/arch/gemma_layout.h"
#include "model/arch/json_fields.h"
#include "model/arch/windows.h"
#include "model/io/gguf.h"

namespace larder {
namespace {

constexpr auto kHfNames = std::to_array<std::string_view>({"Gemma2ForCausalLM", "gemma2"});
constexpr std::uint32_t kLayers27b = 46;
constexpr std::uint32_t kPeriod = 2;
constexpr float kAttentionSoftCap = 50.0F;
constexpr float kLogitSoftCap = 30.0F;
constexpr std::uint32_t kWindow = 4096;

Result<void> from_gguf(const GgufMetadata& metadata, ModelConfig& config) {
  set_gemma_switches(config);
  LARDER_ASSIGN(config.attention_soft_cap,
                metadata.f32_or("gemma2.attn_logit_softcapping", kAttentionSoftCap));
  LARDER_ASSIGN(config.logit_soft_cap,
                metadata.f32_or("gemma2.final_logit_softcapping", kLogitSoftCap));
  LARDER_TRY(gemma_scale_from_gguf(metadata, kLayers27b, config));
  return windows_from_gguf(metadata, kWindow, kPeriod, config);
}

Result<void> from_hf(const JsonFields& fields, ModelConfig& config) {
  set_gemma_switches(config);
  // null switches a cap off; only a file that does not mention it has the default.
  const auto cap = [&](std::string_view key, float absent) -> Result<float> {
    return fields.f32_or(key, fields.mentions(key) ? 0.0F : absent);
  };
  LARDER_ASSIGN(config.attention_soft_cap, cap("attn_logit_softcapping", kAttentionSoftCap));
  LARDER_ASSIGN(config.logit_soft_cap, cap("final_logit_softcapping", kLogitSoftCap));
  LARDER_TRY(gemma_scale_from_hf(fields, config));
  LARDER_ASSIGN(const auto window, fields.u32_or("sliding_window", kWindow));
  LARDER_ASSIGN(auto windowed, windows_from_hf(fields, config.n_layers,
                                               windows_with_period(config.n_layers, kPeriod)));
  set_windows(config, window, std::move(windowed));
  return {};
}

void to_gguf(const ModelConfig& config, GgufWriter& writer) {
  writer.put("gemma2.attn_logit_softcapping", GgufType::f32,
             static_cast<double>(config.attention_soft_cap));
  writer.put("gemma2.final_logit_softcapping", GgufType::f32,
             static_cast<double>(config.logit_soft_cap));
  gemma_scale_to_gguf(config, kLayers27b, writer);
  windows_to_gguf(config, kPeriod, writer);
}

}  // namespace

const Arch kGemma2 = {"gemma2", kHfNames,          from_gguf,          from_hf,
                      to_gguf,  gemma_tensor_name, gemma_tensor_change};

}  // namespace larder
