#include "inspect_facts.h"

namespace larder {

std::string_view head_sharing_name(const ModelConfig& config) {
  if (config.n_kv_heads == config.n_heads) return "MHA";
  return config.n_kv_heads == 1 ? "MQA" : "GQA";
}

std::vector<KvSharing> kv_sharings(const ModelConfig& config) {
  if (config.has_latent()) {
    return {{"MHA", config.n_heads, false, false}, {"MLA", config.n_kv_heads, true, true}};
  }
  const bool is_mha = config.n_kv_heads == config.n_heads;
  const bool is_mqa = config.n_kv_heads == 1;
  const bool shares_layers = config.n_owners() != config.n_layers;
  std::vector<KvSharing> sharings;
  sharings.push_back({"MHA", config.n_heads, is_mha && !shares_layers, false});
  if (!is_mha && !is_mqa) {
    sharings.push_back({"GQA", config.n_kv_heads, !shares_layers, false});
  }
  if (config.n_heads > 1)
    sharings.push_back({"MQA", 1, is_mqa && !is_mha && !shares_layers, false});
  if (shares_layers) {
    const std::string_view name = is_mha ? "MHA+CLA" : is_mqa ? "MQA+CLA" : "GQA+CLA";
    sharings.push_back({name, config.n_kv_heads, true, true});
  }
  return sharings;
}

std::string_view tokenizer_name(const TokenizerData& data) {
  switch (data.kind) {
    case TokenizerKind::none:
      return "none";
    case TokenizerKind::sentencepiece:
      return "SentencePiece";
    case TokenizerKind::byte_bpe:
      return "byte-level BPE";
  }
  return "none";
}

std::string_view rope_scaling_name(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::none:
      return "none";
    case RopeScaling::linear:
      return "linear";
    case RopeScaling::llama3:
      return "llama3";
    case RopeScaling::yarn:
      return "yarn";
    case RopeScaling::longrope:
      return "longrope";
  }
  return "none";
}

std::uint64_t n_parameters(const ModelSource& source) {
  std::uint64_t n = 0;
  for (const std::string& name : source.tensor_names()) {
    if (const auto view = source.find(name)) n += view->n_rows() * view->n_cols();
  }
  return n;
}

bool has_config(const ModelConfig& config) {
  return config.n_layers > 0 && config.n_heads > 0 && config.n_kv_heads > 0 && config.head_dim > 0;
}

std::vector<std::uint64_t> typical_contexts(const ModelConfig& config) {
  std::vector<std::uint64_t> contexts;
  for (const std::uint64_t n : {1024U, 4096U, 8192U, 32768U, 131072U}) {
    if (n < config.n_context_train) contexts.push_back(n);
  }
  if (config.n_context_train > 0) contexts.push_back(config.n_context_train);
  return contexts;
}

}  // namespace larder
