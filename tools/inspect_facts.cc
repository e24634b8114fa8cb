#include "inspect_facts.h"

namespace larder {

std::vector<KvSharing> kv_sharings(const ModelConfig& config) {
  const bool is_mha = config.n_kv_heads == config.n_heads;
  const bool is_mqa = config.n_kv_heads == 1;
  std::vector<KvSharing> sharings;
  sharings.push_back({"MHA", config.n_heads, is_mha});
  if (!is_mha && !is_mqa) sharings.push_back({"GQA", config.n_kv_heads, true});
  if (config.n_heads > 1) sharings.push_back({"MQA", 1, is_mqa && !is_mha});
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
