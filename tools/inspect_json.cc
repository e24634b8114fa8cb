#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "inspect_facts.h"
#include "inspect_report.h"
#include "kv_arithmetic.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

/// Byte counts are whole for whole blocks; a format with fractions of a byte per token shows them.
Json number(double value) {
  if (value == std::floor(value) && value < 0x1p63) return static_cast<std::uint64_t>(value);
  return value;
}

/// Null where the model has none.
Json latent_json(const ModelConfig& c) {
  if (!c.has_latent()) return nullptr;
  return {{"kv_rank", c.latent.kv_rank},
          {"q_rank", c.latent.q_rank},
          {"nope_dim", c.latent.nope_dim},
          {"rope_dim", c.latent.rope_dim},
          {"v_dim", c.latent.v_dim}};
}

Json experts_json(const ModelConfig& c) {
  const ExpertConfig& e = c.experts;
  if (e.n_experts == 0) return nullptr;
  return {{"n_experts", e.n_experts},
          {"n_used", e.n_used},
          {"n_shared", e.n_shared},
          {"n_ff", e.n_ff},
          {"n_groups", e.n_groups},
          {"n_groups_used", e.n_groups_used},
          {"n_dense_layers", e.n_dense_layers}};
}

Json config_json(const ModelConfig& c) {
  return {{"n_layers", c.n_layers},
          {"n_kv_layers", c.n_owners()},
          {"latent", latent_json(c)},
          {"experts", experts_json(c)},
          {"n_embd", c.n_embd},
          {"n_ff", c.n_ff},
          {"n_heads", c.n_heads},
          {"n_kv_heads", c.n_kv_heads},
          {"head_dim", c.head_dim},
          {"n_vocab", c.n_vocab},
          {"n_context_train", c.n_context_train},
          {"rope_base", c.rope.base},
          {"rope_scaling", rope_scaling_name(c.rope.scaling)},
          {"window", c.window},
          {"n_windowed_layers", n_windowed_layers(c)}};
}

Json tokenizer_json(const TokenizerData& data) {
  return {{"kind", tokenizer_name(data)},
          {"pre", data.pre},
          {"n_tokens", data.tokens.size()},
          {"bos", data.bos},
          {"eos", data.eos},
          {"chat_template", !data.chat_template.empty()}};
}

Json format_json(const ModelConfig& config, const KvCodec& codec, const InspectOptions& options) {
  const KvFacts kv{&config, &codec, &codec, config.n_kv_heads};
  Json per_token = Json::object();
  for (const KvSharing& sharing : kv_sharings(config)) {
    per_token[std::string(sharing.name)] =
        number(token_bytes({&config, &codec, &codec, sharing.n_kv_heads, sharing.as_stored}));
  }
  Json caches = Json::array();
  for (const std::uint64_t n_tokens : typical_contexts(config)) {
    caches.push_back({{"n_tokens", n_tokens}, {"bytes", number(cache_bytes(kv, n_tokens))}});
  }
  Json longest = Json::array();
  for (const std::uint64_t n_bytes : options.memory_bytes) {
    const std::uint64_t n = longest_context(kv, n_bytes);
    const bool any = n == std::numeric_limits<std::uint64_t>::max();
    longest.push_back({{"memory_bytes", n_bytes}, {"n_tokens", any ? Json(nullptr) : Json(n)}});
  }
  return {{"format", codec.name},
          {"bits_per_element", bits_per_element(kv)},
          {"bytes_per_token", number(token_bytes(kv))},
          {"bytes_per_token_beyond_window", number(token_bytes_beyond_window(kv))},
          {"bytes_per_token_as", std::move(per_token)},
          {"cache_bytes", std::move(caches)},
          {"longest_context", std::move(longest)}};
}

Json tensors_json(const ModelSource& source) {
  Json tensors = Json::array();
  for (const std::string& name : source.tensor_names()) {
    const auto view = source.find(name);
    if (!view) continue;
    const std::vector<std::uint64_t> shape(view->shape.begin(), view->shape.begin() + view->n_dims);
    tensors.push_back({{"name", name},
                       {"type", dtype_info(view->dtype).name},
                       {"shape", shape},
                       {"bytes", view->bytes.size()}});
  }
  return tensors;
}

}  // namespace

nlohmann::ordered_json inspect_json(const ModelSource& source, const InspectOptions& options) {
  const ModelConfig& config = source.config();
  Json report = {{"file", source.path()},
                 {"name", config.name},
                 {"family", config.arch},
                 {"config", has_config(config) ? config_json(config) : Json(nullptr)},
                 {"tokenizer", tokenizer_json(source.tokenizer())},
                 {"weights",
                  {{"type", source.weights_description()},
                   {"bytes", source.weights_bytes()},
                   {"n_tensors", source.tensor_names().size()},
                   {"n_parameters", n_parameters(source)}}}};
  if (!options.not_a_model.empty()) report["not_a_model"] = options.not_a_model;
  Json formats = Json::array();
  if (has_config(config)) {
    for (const KvCodec* codec : storable_formats(config))
      formats.push_back(format_json(config, *codec, options));
  }
  report["kv_cache"] = std::move(formats);
  if (options.tensors) report["tensors"] = tensors_json(source);
  return report;
}

}  // namespace larder
