// The JSON files of a Hugging Face directory.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "larder/result.h"

namespace larder {

/// Reads a whole JSON object into `out`. `max_bytes` bounds the memory: a hostile tree takes up to
/// 64 times the file's size. Errors: not_found, io, corrupt.
Result<void> read_json_object(const std::string& path, std::size_t max_bytes, nlohmann::json& out);

/// The distinct file names of "weight_map" in a model.safetensors.index.json, sorted: plain names
/// only, so that an index cannot reach outside its directory. Errors: not_found, io, corrupt.
Result<std::vector<std::string>> read_shard_names(const std::string& index_path);

}  // namespace larder
