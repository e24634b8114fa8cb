// What kvq formats know of a model's keys, read from the file of --kv-calibration.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "codec/key_codes.h"
#include "engine/kv_formats.h"
#include "kernels/turned_keys.h"
#include "larder/options.h"
#include "larder/result.h"
#include "model/config.h"

namespace larder {

struct CalibratedKeys {
  std::vector<KeyTable> tables;     // [n_layers]; of layers with other formats, empty ones
  std::vector<BlockAngles> angles;  // of layers without and, where they differ, with a window
  std::string digest;  // of the file: blocks that were stored by another one mean something else
};

/// Null when no layer has such a format. Errors: invalid_argument when a format needs a file and
/// none is named, or it is none, or one of another model; not_found, io.
Result<std::shared_ptr<const CalibratedKeys>> calibrated_keys(
    const ModelConfig& config, const EngineOptions& options, const std::vector<KvFormats>& formats);

/// Has the layouts [n_layers] of such formats refer to `keys`, which must outlive them.
void set_keys(const ModelConfig& config, const CalibratedKeys& keys, std::span<KvLayout> layouts);

}  // namespace larder
