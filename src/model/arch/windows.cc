#include "model/arch/windows.h"

#include <algorithm>

#include "base/fail.h"
#include "model/arch/json_fields.h"
#include "model/io/gguf.h"

namespace larder {

std::vector<std::uint8_t> windows_with_period(std::uint32_t n_layers, std::uint32_t period) {
  std::vector<std::uint8_t> windowed(n_layers, 1);
  for (std::uint32_t i = 0; period != 0 && i < n_layers; ++i) windowed[i] = (i + 1) % period != 0;
  return windowed;
}

Result<std::vector<std::uint8_t>> windows_from_hf(const JsonFields& fields, std::uint32_t n_layers,
                                                  std::vector<std::uint8_t> absent) {
  LARDER_ASSIGN(const auto types, fields.strings("layer_types"));
  if (types.empty()) return absent;
  if (types.size() != n_layers) {
    return fail(Errc::corrupt, "{}: field 'layer_types' has {} entries, expected {}",
                fields.origin(), types.size(), n_layers);
  }
  std::vector<std::uint8_t> windowed;
  for (const auto& type : types) {
    if (type != "sliding_attention" && type != "full_attention") {
      return fail(Errc::unsupported, "{}: field 'layer_types' names '{}', known are {}",
                  fields.origin(), type, "sliding_attention, full_attention");
    }
    windowed.push_back(type == "sliding_attention");
  }
  return windowed;
}

void set_windows(ModelConfig& config, std::uint32_t window, std::vector<std::uint8_t> windowed) {
  const auto n_windowed = std::count(windowed.begin(), windowed.end(), 1);
  const bool all = n_windowed == static_cast<std::ptrdiff_t>(windowed.size());
  config.window = all || n_windowed > 0 ? window : 0;
  config.windowed.clear();
  if (config.window != 0 && !all) config.windowed = std::move(windowed);
}

Result<void> windows_from_gguf(const GgufMetadata& metadata, std::uint32_t absent_window,
                               std::uint32_t absent_period, ModelConfig& config) {
  const std::string prefix = config.arch + ".attention.sliding_window";
  LARDER_ASSIGN(const auto window, metadata.u32_or(prefix, absent_window));
  const std::string pattern = prefix + "_pattern";
  const auto* value = metadata.find(pattern);
  if (value == nullptr) {
    set_windows(config, window, windows_with_period(config.n_layers, absent_period));
    return {};
  }
  if (const auto* flags = std::get_if<std::vector<bool>>(value)) {
    if (flags->size() != config.n_layers) {
      return fail(Errc::corrupt, "{}: key '{}' has {} entries, expected {}", metadata.origin(),
                  pattern, flags->size(), config.n_layers);
    }
    set_windows(config, window, {flags->begin(), flags->end()});
    return {};
  }
  LARDER_ASSIGN(const auto period, metadata.u32(pattern));
  set_windows(config, window, windows_with_period(config.n_layers, period));
  return {};
}

void windows_to_gguf(const ModelConfig& config, std::uint32_t absent_period, GgufWriter& writer) {
  if (config.window == 0) return;
  const std::string prefix = config.arch + ".attention.sliding_window";
  writer.put(prefix, GgufType::u32, std::uint64_t{config.window});
  const auto windowed =
      config.windowed.empty() ? windows_with_period(config.n_layers, 0) : config.windowed;
  if (windowed == windows_with_period(config.n_layers, absent_period)) return;
  for (std::uint32_t period = 0; period <= config.n_layers; ++period) {
    if (windowed == windows_with_period(config.n_layers, period)) {
      writer.put(prefix + "_pattern", GgufType::u32, std::uint64_t{period});
      return;
    }
  }
  writer.put_array(prefix + "_pattern", GgufType::boolean,
                   std::vector<bool>(windowed.begin(), windowed.end()));
}

}  // namespace larder
