// What `larder convert` reads, with the changes it was asked for.
#pragma once

#include <memory>
#include <string>

#include "model/io/convert.h"
#include "model/io/model_source.h"

namespace larder {

/// By the file's first bytes.
bool is_gguf_file(const std::string& path);

/// Opens the input, checks presence and shape of every tensor, and changes the attention if the
/// options say so. Errors: those of convert_model that come before anything is written.
Result<std::unique_ptr<ModelSource>> open_for_conversion(const ConvertOptions& options,
                                                         const ConvertProgress& progress);

}  // namespace larder
