// What the keys of a model's layers are like on a given text, before rope.
#pragma once

#include "calibration.h"
#include "codec/key_calibration.h"
#include "larder/result.h"

namespace larder {

/// Runs the text through the engine (`run_windows`) and fits means, spreads and tables to the keys
/// of each layer (codec/fit_keys.h). Errors: invalid_argument (an empty text), unsupported (latent
/// attention), those of the engine; unavailable (Ctrl-C).
Result<KeyCalibration> measure_keys(const CalibrationOptions& options);

}  // namespace larder
