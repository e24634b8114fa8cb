// What `larder inspect` says about a model, as text and as JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "model/io/model_source.h"

namespace larder {

struct InspectOptions {
  std::vector<std::uint64_t> memory_bytes;  // for which the longest context is shown
  bool tensors = false;
  std::string not_a_model;  // why only the vocabulary could be read; empty: all was
};

std::string inspect_text(const ModelSource& source, const InspectOptions& options);
nlohmann::ordered_json inspect_json(const ModelSource& source, const InspectOptions& options);

}  // namespace larder
