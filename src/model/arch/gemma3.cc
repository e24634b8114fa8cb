// Gemma 3 (text): five layers with a sliding window and their own rope base to one without; norms
// on q and k heads.
#include <array>

#include "base/fail.h"
#include "model/arch/families.h"
#include "model/arch/gemma_layout.h"
#include "model/arch/hf_rope.h"
#include "model/arch/json_fields.h"
#include "model/arch/windows.h"
#include "model/io/gguf.h"

namespace larder {
namespace {

constexpr auto kHfNames = std::to_array<std::string_view>({"Gemma3ForCausalLM", "gemma3_text"});
constexpr std::uint32_t kLayers27b = 62;
constexpr std::uint32_t kPeriod = 6;
constexpr float kBase = 1e6F;
constexpr float kLocalBase = 10000.0F;

Result<void> from_gguf(const GgufMetadata& metadata, ModelConfig& config) {
  set_gemma_switches(config);
  config.qk_norm = true;
  LARDER_ASSIGN(config.attention_soft_cap, metadata.f32_or("gemma3.attn_logit_softcapping", 0.0F));
  LARDER_ASSIGN(config.logit_soft_cap, metadata.f32_or("gemma3.final_logit_softcapping", 0.0F));
  LARDER_TRY(gemma_scale_from_gguf(metadata, kLayers27b, config));
  LARDER_TRY(windows_from_gguf(metadata, 0, kPeriod, config));
  if (config.window == 0) return {};
  LARDER_ASSIGN(config.rope.local_base, metadata.f32_or("gemma3.rope.freq_base_swa", kLocalBase));
  return {};
}

Result<void> from_hf(const JsonFields& fields, ModelConfig& config) {
  set_gemma_switches(config);
  config.qk_norm = true;
  if (!fields.has("rope_theta") && !fields.has("rope_parameters")) config.rope.base = kBase;
  LARDER_ASSIGN(config.attention_soft_cap, fields.f32_or("attn_logit_softcapping", 0.0F));
  LARDER_ASSIGN(config.logit_soft_cap, fields.f32_or("final_logit_softcapping", 0.0F));
  LARDER_ASSIGN(const auto both_ways, fields.bool_or("use_bidirectional_attention", false));
  if (both_ways) {
    return fail(Errc::unsupported, "{}: field 'use_bidirectional_attention' is true, {}",
                fields.origin(), "an embedding model");
  }
  LARDER_TRY(gemma_scale_from_hf(fields, config));
  LARDER_ASSIGN(const auto window, fields.u32_or("sliding_window", 4096));
  LARDER_ASSIGN(const auto period, fields.u32_or("sliding_window_pattern", kPeriod));
  LARDER_ASSIGN(auto windowed, windows_from_hf(fields, config.n_layers,
                                               windows_with_period(config.n_layers, period)));
  set_windows(config, window, std::move(windowed));
  if (config.window == 0) return {};
  LARDER_ASSIGN(config.rope.local_base, local_rope_base_from_hf(fields, kLocalBase));
  return {};
}

void to_gguf(const ModelConfig& config, GgufWriter& writer) {
  const auto put_f32 = [&](const char* key, float value) {
    writer.put(key, GgufType::f32, static_cast<double>(value));
  };
  if (config.attention_soft_cap != 0) {
    put_f32("gemma3.attn_logit_softcapping", config.attention_soft_cap);
  }
  if (config.logit_soft_cap != 0) put_f32("gemma3.final_logit_softcapping", config.logit_soft_cap);
  if (config.rope.local_base != 0 && config.rope.local_base != kLocalBase) {
    put_f32("gemma3.rope.freq_base_swa", config.rope.local_base);
  }
  gemma_scale_to_gguf(config, kLayers27b, writer);
  windows_to_gguf(config, kPeriod, writer);
}

}  // namespace

const Arch kGemma3 = {"gemma3", kHfNames,          from_gguf,          from_hf,
                      to_gguf,  gemma_tensor_name, gemma_tensor_change};

}  // namespace larder
