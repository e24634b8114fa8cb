// Which layers have a sliding window, as the two file kinds say it.
#pragma once

#include <cstdint>
#include <vector>

#include "larder/result.h"
#include "model/config.h"

namespace larder {

class GgufMetadata;
class GgufWriter;
class JsonFields;

/// Every `period`-th layer sees everything, the others have a window. [n_layers]; period 0: all do.
std::vector<std::uint8_t> windows_with_period(std::uint32_t n_layers, std::uint32_t period);

/// config.json's "layer_types", or `absent` when the file has none. [n_layers]
Result<std::vector<std::uint8_t>> windows_from_hf(const JsonFields& fields, std::uint32_t n_layers,
                                                  std::vector<std::uint8_t> absent);

/// Sets both fields in the one form that ModelConfig allows for each meaning: no window at all is
/// window 0, a window everywhere is an empty `windowed`.
void set_windows(ModelConfig& config, std::uint32_t window, std::vector<std::uint8_t> windowed);

/// Reads ARCH.attention.sliding_window and .sliding_window_pattern (a period or one flag per
/// layer); `absent_window` and `absent_period` are what files without the keys mean.
Result<void> windows_from_gguf(const GgufMetadata& metadata, std::uint32_t absent_window,
                               std::uint32_t absent_period, ModelConfig& config);

/// The inverse: a pattern is written only when it differs from `absent_period`.
void windows_to_gguf(const ModelConfig& config, std::uint32_t absent_period, GgufWriter& writer);

}  // namespace larder
