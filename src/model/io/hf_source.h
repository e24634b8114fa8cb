// A Hugging Face model directory as a ModelSource.
#pragma once

#include <memory>
#include <string>

#include "larder/result.h"
#include "model/io/model_source.h"

namespace larder {

/// Reads config.json, generation_config.json (if there), the tokenizer's files (if there) and
/// model.safetensors or the files that model.safetensors.index.json names. Tensors get their
/// canonical names; a tensor that the architecture does not know is refused, so that no weight is
/// silently left out. Errors: not_found, io, corrupt, unsupported.
Result<std::unique_ptr<ModelSource>> open_hf_directory(const std::string& path,
                                                       const OpenOptions& options);

}  // namespace larder
