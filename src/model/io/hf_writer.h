// A Hugging Face directory from another one whose attention was changed.
#pragma once

#include <span>
#include <string>

#include "larder/result.h"
#include "model/io/convert.h"
#include "model/io/model_source.h"

namespace larder {

/// Writes config.json (that of options.input with what `source` changed), model.safetensors and
/// copies of the input's other files (tokenizer, card, ...; no weights) into options.output, which
/// must be new or empty. config.json comes last: without it the directory is no model.
/// Errors: invalid_argument (a directory that is not empty, a type that safetensors lacks), io.
Result<ConvertReport> write_hf_directory(const ModelSource& source, const ConvertOptions& options,
                                         const ConvertProgress& progress);

}  // namespace larder
