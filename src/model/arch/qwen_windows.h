// The sliding window of Qwen 2 and 3: off unless asked for, and then on the upper layers only.
#pragma once

#include "larder/result.h"
#include "model/config.h"

namespace larder {

class JsonFields;

/// use_sliding_window, sliding_window, max_window_layers, layer_types.
Result<void> qwen_windows_from_hf(const JsonFields& fields, ModelConfig& config);

}  // namespace larder
