// The checkpoints of llama2.c (`.bin`) as a ModelSource.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "larder/result.h"
#include "model/io/model_source.h"

namespace larder {

/// Reads the legacy format (seven int32, then floats), version 1 (256-byte header, floats) and
/// version 2 (int8 groups with float scales; decoded to floats in memory). `tokenizer_path` is the
/// tok*.bin beside it; empty: no tokenizer. Q and K rows are in adjacent pairs, as in GGUF.
/// Errors: not_found, io, corrupt (a size that no model has, or that the file's length belies).
Result<std::unique_ptr<ModelSource>> open_llama2c(const std::string& path,
                                                  const std::string& tokenizer_path);

/// The same over bytes that outlive the source, without a tokenizer (fuzzing, tests).
Result<std::unique_ptr<ModelSource>> parse_llama2c(std::span<const std::byte> bytes,
                                                   const std::string& origin);

}  // namespace larder
