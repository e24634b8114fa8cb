// ModelConfig from config.json, as far as all families share its fields.
#include "base/fail.h"
#include "model/arch/families.h"
#include "model/arch/hf_rope.h"
#include "model/arch/json_fields.h"
#include "model/arch/latent_keys.h"
#include "model/io/gguf_cursor.h"

namespace larder {
namespace {

std::string known_names() {
  std::string names;
  for (const Arch* arch : architectures()) {
    if (!names.empty()) names += ", ";
    names += arch->hf_names.front();
  }
  return names;
}

Result<const Arch*> arch_of(const JsonFields& fields) {
  LARDER_ASSIGN(const auto classes, fields.strings("architectures"));
  LARDER_ASSIGN(const auto type, fields.string_or("model_type", ""));
  const std::string name = classes.empty() ? type : classes.front();
  if (name.empty()) {
    return fail(Errc::not_found, "{}: fields 'architectures' and 'model_type' are missing",
                fields.origin());
  }
  if (const Arch* arch = find_arch_hf(name)) return arch;
  return fail(Errc::unsupported, "{}: architecture '{}' is unknown, known are {}", fields.origin(),
              printable(name), known_names());
}

Result<void> read_sizes(const JsonFields& f, ModelConfig& c) {
  LARDER_ASSIGN(c.n_context_train, f.u32("max_position_embeddings"));
  LARDER_ASSIGN(c.n_embd, f.u32("hidden_size"));
  LARDER_ASSIGN(c.n_layers, f.u32("num_hidden_layers"));
  LARDER_ASSIGN(c.n_ff, f.u32("intermediate_size"));
  LARDER_ASSIGN(c.n_heads, f.u32("num_attention_heads"));
  LARDER_ASSIGN(c.n_kv_heads, f.u32_or("num_key_value_heads", c.n_heads));
  if (c.head_dim == 0) c.head_dim = c.n_heads == 0 ? 0 : c.n_embd / c.n_heads;
  LARDER_ASSIGN(c.head_dim, f.u32_or("head_dim", c.head_dim));
  if (f.has("kv_lora_rank")) LARDER_TRY(latent_from_hf(f, c));
  LARDER_ASSIGN(c.n_vocab, f.u32("vocab_size"));
  LARDER_ASSIGN(c.norm_eps, f.f32_or("rms_norm_eps", 1e-6F));
  return {};
}

}  // namespace

Result<ModelConfig> config_from_hf(const nlohmann::json& config_json, const std::string& origin) {
  const JsonFields fields(config_json, origin);
  LARDER_ASSIGN(const Arch* arch, arch_of(fields));
  ModelConfig config;
  config.arch = arch->name;
  LARDER_TRY(read_sizes(fields, config));
  LARDER_TRY(rope_from_hf(fields, config));
  if (config.has_latent()) config.rope.n_rot = config.latent.rope_dim;
  LARDER_TRY(validate(config, origin));  // before a family allocates by the counts
  LARDER_TRY(arch->from_hf(fields, config));
  LARDER_TRY(validate(config, origin));
  LARDER_ASSIGN(const auto activation, fields.string_or("hidden_act", "silu"));
  LARDER_ASSIGN(const auto newer, fields.string_or("hidden_activation", activation));
  const std::string_view expected =
      config.activation == Activation::silu ? "silu" : "gelu_pytorch_tanh";
  if (fields.has("hidden_act") || fields.has("hidden_activation")) {
    if (newer != expected) {
      return fail(Errc::unsupported, "{}: field 'hidden_act' is '{}', {} uses '{}'", origin, newer,
                  config.arch, expected);
    }
  }
  return config;
}

}  // namespace larder
