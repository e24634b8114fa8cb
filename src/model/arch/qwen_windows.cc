#include "model/arch/qwen_windows.h"

#include "base/fail.h"
#include "model/arch/json_fields.h"
#include "model/arch/windows.h"

namespace larder {

Result<void> qwen_windows_from_hf(const JsonFields& fields, ModelConfig& config) {
  LARDER_ASSIGN(const auto in_use, fields.bool_or("use_sliding_window", false));
  if (!in_use) return {};
  LARDER_ASSIGN(const auto window, fields.u32_or("sliding_window", 4096));
  LARDER_ASSIGN(const auto first, fields.u32_or("max_window_layers", 28));
  std::vector<std::uint8_t> windowed(config.n_layers, 0);
  for (std::uint32_t i = first; i < config.n_layers; ++i) windowed[i] = 1;
  LARDER_ASSIGN(windowed, windows_from_hf(fields, config.n_layers, std::move(windowed)));
  set_windows(config, window, std::move(windowed));
  return {};
}

}  // namespace larder
