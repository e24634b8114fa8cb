// Words for what a model is, shared by the text and the JSON of `larder inspect`.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/io/model_source.h"

namespace larder {

/// One way for query heads to share KV heads.
struct KvSharing {
  std::string_view name;     // "MHA", "GQA", "MQA", "MLA"; with "+CLA" where layers share too
  std::uint32_t n_kv_heads;  // of each layer
  bool actual;               // what the model does
  bool as_stored = true;     // see KvFacts
};

/// MHA, the model's own GQA if it has one, MQA; then what shares rows among layers. With latent
/// attention: MHA with the same heads, and MLA.
std::vector<KvSharing> kv_sharings(const ModelConfig& config);
/// "MHA", "GQA", "MQA": how the query heads of a layer share KV heads.
std::string_view head_sharing_name(const ModelConfig& config);

std::string_view tokenizer_name(const TokenizerData& data);
std::string_view rope_scaling_name(RopeScaling scaling);
/// Elements of all tensors.
std::uint64_t n_parameters(const ModelSource& source);
/// True when the file has hyper-parameters, so that a cache can be computed.
bool has_config(const ModelConfig& config);

/// Contexts for which cache sizes are shown; those up to the model's own, and the model's own.
std::vector<std::uint64_t> typical_contexts(const ModelConfig& config);

}  // namespace larder
