// Rotary position embedding as config.json describes it.
#pragma once

#include "larder/result.h"
#include "model/config.h"

namespace larder {

class JsonFields;

/// Reads rope_theta, partial_rotary_factor and rope_scaling (or the newer rope_parameters) into
/// config.rope. REQUIRES: config's head_dim and n_context_train are set.
/// Errors: unsupported (a kind of scaling, by name), corrupt, not_found.
Result<void> rope_from_hf(const JsonFields& fields, ModelConfig& config);

/// rope_parameters' base for the sliding-window layers, else `absent`.
Result<float> local_rope_base_from_hf(const JsonFields& fields, float absent);

}  // namespace larder
