// A GGUF file as a model source.
#pragma once

#include <memory>
#include <string>

#include "larder/result.h"
#include "model/io/model_source.h"

namespace larder {

class GgufFile;
class GgufMetadata;
class GgufWriter;

/// Opens and maps `path`. With `vocab_only` a file without tensors or hyper-parameters is accepted
/// too; its config then holds the name, the architecture and the vocabulary's size only.
/// Errors: as open_model.
Result<std::unique_ptr<ModelSource>> open_gguf(const std::string& path, const OpenOptions& options);
/// The same over a file that is open already (tests).
Result<std::unique_ptr<ModelSource>> source_of(std::unique_ptr<GgufFile> file,
                                               const OpenOptions& options);

/// The `general.sampling.*` keys. Values that make no sense are refused.
Result<GenerationDefaults> read_generation_defaults(const GgufMetadata& metadata);
void write_generation_defaults(const GenerationDefaults& defaults, GgufWriter& writer);

}  // namespace larder
