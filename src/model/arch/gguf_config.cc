// ModelConfig from and to GGUF's keys, as far as all families share them.
#include <cmath>

#include "base/fail.h"
#include "model/arch/families.h"
#include "model/arch/latent_keys.h"
#include "model/io/gguf.h"
#include "model/io/gguf_cursor.h"
#include "model/rope_table.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

constexpr std::string_view kFrequencies = "rope_freqs.weight";
constexpr std::string_view kLongFactors = "rope_factors_long.weight";
constexpr std::string_view kShortFactors = "rope_factors_short.weight";
constexpr float kLogMultiplier = 0.1F;  // files hold YaRN's 0.1 times mscale_all_dim

/// "llama, qwen2, ..." without the names that two families share.
std::string known_names() {
  std::string names;
  for (const Arch* arch : architectures()) {
    if (find_arch(arch->name) != arch) continue;
    if (!names.empty()) names += ", ";
    names += arch->name;
  }
  return names;
}

Result<void> read_heads(const GgufMetadata& m, ModelConfig& c) {
  const std::string p = c.arch + ".attention.";
  LARDER_ASSIGN(c.n_kv_heads, m.u32_or(p + "head_count_kv", c.n_heads));
  LARDER_ASSIGN(c.head_dim, m.u32_or(p + "key_length", c.n_heads == 0 ? 0 : c.n_embd / c.n_heads));
  LARDER_ASSIGN(const auto value_length, m.u32_or(p + "value_length", c.head_dim));
  if (value_length != c.head_dim) {
    return fail(Errc::unsupported, "{}: key '{}value_length' is {}, but key_length is {}",
                m.origin(), p, value_length, c.head_dim);
  }
  return {};
}

/// What sines and cosines are multiplied by where the file names no factor. DeepSeek's mscale
/// equals its mscale_all_dim, so that nothing is left for them; it grows the scores instead.
float default_amplitude(const ModelConfig& c) {
  return c.has_latent() && c.rope.mscale_all_dim != 0 ? 1.0F : yarn_attention_factor(c.rope.factor);
}

Result<void> read_sizes(const GgufMetadata& m, ModelConfig& c) {
  const std::string p = c.arch + ".";
  LARDER_ASSIGN(c.n_context_train, m.u32(p + "context_length"));
  LARDER_ASSIGN(c.n_embd, m.u32(p + "embedding_length"));
  LARDER_ASSIGN(c.n_layers, m.u32(p + "block_count"));
  LARDER_ASSIGN(c.n_ff, m.u32(p + "feed_forward_length"));
  LARDER_ASSIGN(c.n_heads, m.u32(p + "attention.head_count"));
  LARDER_TRY(m.has(p + "attention.kv_lora_rank") ? latent_from_gguf(m, c) : read_heads(m, c));
  LARDER_ASSIGN(c.norm_eps, m.f32(p + "attention.layer_norm_rms_epsilon"));
  LARDER_ASSIGN(c.n_vocab, m.u32_or(p + "vocab_size", 0));
  // The list decides, as it does for llama.cpp: vocab_size may count the pieces before padding.
  if (const auto* tokens = m.find("tokenizer.ggml.tokens")) {
    if (const auto* pieces = std::get_if<std::vector<std::string>>(tokens)) {
      c.n_vocab = static_cast<std::uint32_t>(pieces->size());
    }
  }
  if (c.n_vocab == 0) {
    return fail(Errc::not_found, "{}: keys '{}vocab_size' and 'tokenizer.ggml.tokens' are missing",
                m.origin(), p);
  }
  return {};
}

Result<void> read_rope(const GgufMetadata& m, ModelConfig& c) {
  const std::string p = c.arch + ".rope.";
  RopeConfig& rope = c.rope;
  rope.style = c.arch == kLlama.name ? RopeStyle::adjacent : RopeStyle::halves;
  LARDER_ASSIGN(rope.n_rot, m.u32_or(p + "dimension_count", c.head_dim));
  LARDER_ASSIGN(rope.base, m.f32_or(p + "freq_base", 10000.0F));
  LARDER_ASSIGN(const auto legacy_factor, m.f32_or(p + "scale_linear", 1.0F));
  LARDER_ASSIGN(rope.factor, m.f32_or(p + "scaling.factor", legacy_factor));
  if (rope.factor == 0) rope.factor = 1.0F;  // llama.cpp's spelling of "not scaled"
  LARDER_ASSIGN(rope.original_context,
                m.u32_or(p + "scaling.original_context_length", c.n_context_train));
  LARDER_ASSIGN(const auto type, m.string_or(p + "scaling.type", "linear"));
  if (type == "linear") {
    rope.scaling = rope.factor == 1.0F ? RopeScaling::none : RopeScaling::linear;
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::yarn;
    LARDER_ASSIGN(rope.beta_fast, m.f32_or(p + "scaling.yarn_beta_fast", 32.0F));
    LARDER_ASSIGN(rope.beta_slow, m.f32_or(p + "scaling.yarn_beta_slow", 1.0F));
    LARDER_ASSIGN(const auto times, m.f32_or(p + "scaling.attn_factor", 1.0F));
    LARDER_ASSIGN(const auto log_multiplier, m.f32_or(p + "scaling.yarn_log_multiplier", 0.0F));
    rope.mscale_all_dim = log_multiplier / kLogMultiplier;
    rope.attention_factor = times * default_amplitude(c);
  } else if (type != "none" && type != "longrope") {  // long rope is told by its tensors
    return fail(Errc::unsupported, "{}: key '{}scaling.type' is '{}', known are {}", m.origin(), p,
                printable(type), "none, linear, yarn, longrope");
  }
  return {};
}

Result<std::vector<float>> read_factors(const GgufFile& file, std::string_view name,
                                        std::uint32_t n_rot) {
  std::vector<float> values;
  const auto* tensor = file.find(name);
  if (tensor == nullptr) return values;
  const auto& view = tensor->view;
  if (view.dtype != DType::f32 || view.n_rows() != 1 || view.n_cols() != n_rot / 2) {
    return fail(Errc::corrupt, "{}: tensor '{}' has {} x {} elements, expected {} of type f32",
                file.metadata().origin(), name, view.n_rows(), view.n_cols(), n_rot / 2);
  }
  values.resize(n_rot / 2);
  decode_row(DType::f32, view.bytes.data(), values.size(), values.data());
  return values;
}

Result<void> read_rope_tensors(const GgufFile& file, ModelConfig& c) {
  const GgufMetadata& m = file.metadata();
  RopeConfig& rope = c.rope;
  LARDER_ASSIGN(rope.frequency_divisors, read_factors(file, kFrequencies, rope.n_rot));
  LARDER_ASSIGN(rope.long_factors, read_factors(file, kLongFactors, rope.n_rot));
  LARDER_ASSIGN(rope.short_factors, read_factors(file, kShortFactors, rope.n_rot));
  if (rope.long_factors.empty() && rope.short_factors.empty()) return {};
  rope.scaling = RopeScaling::longrope;
  rope.factor = static_cast<float>(c.n_context_train) / static_cast<float>(rope.original_context);
  LARDER_ASSIGN(rope.attention_factor, m.f32_or(c.arch + ".rope.scaling.attn_factor", 1.0F));
  return {};
}

void write_rope(const ModelConfig& c, GgufWriter& writer) {
  const RopeConfig& rope = c.rope;
  const std::string p = c.arch + ".rope.";
  const auto put_f32 = [&](std::string_view key, float value) {
    writer.put(p + std::string(key), GgufType::f32, static_cast<double>(value));
  };
  writer.put(p + "dimension_count", GgufType::u32, std::uint64_t{rope.n_rot});
  put_f32("freq_base", rope.base);
  if (rope.scaling == RopeScaling::linear || rope.scaling == RopeScaling::yarn) {
    writer.put(p + "scaling.type", GgufType::string,
               std::string(rope.scaling == RopeScaling::linear ? "linear" : "yarn"));
    put_f32("scaling.factor", rope.factor);
  }
  if (rope.scaling == RopeScaling::yarn || rope.scaling == RopeScaling::longrope) {
    writer.put(p + "scaling.original_context_length", GgufType::u32,
               std::uint64_t{rope.original_context});
  }
  if (rope.scaling == RopeScaling::yarn) {
    if (rope.beta_fast != 32.0F) put_f32("scaling.yarn_beta_fast", rope.beta_fast);
    if (rope.beta_slow != 1.0F) put_f32("scaling.yarn_beta_slow", rope.beta_slow);
    // Readers multiply YaRN's own factor by this one.
    const float times = rope_amplitude(rope) / default_amplitude(c);
    if (times != 1.0F) put_f32("scaling.attn_factor", times);
    if (c.has_latent() && rope.mscale_all_dim != 0) {
      put_f32("scaling.yarn_log_multiplier", rope.mscale_all_dim * kLogMultiplier);
    }
  }
  if (rope.scaling == RopeScaling::longrope) put_f32("scaling.attn_factor", rope_amplitude(rope));
}

}  // namespace

Result<ModelConfig> config_from_gguf(const GgufMetadata& metadata) {
  ModelConfig config;
  LARDER_ASSIGN(config.arch, metadata.string("general.architecture"));
  const Arch* arch = find_arch(config.arch);
  if (arch == nullptr) {
    return fail(Errc::unsupported, "{}: architecture '{}' is unknown, known are {}",
                metadata.origin(), printable(config.arch), known_names());
  }
  LARDER_ASSIGN(config.name, metadata.string_or("general.name", ""));
  LARDER_TRY(read_sizes(metadata, config));
  LARDER_TRY(read_rope(metadata, config));
  LARDER_TRY(validate(config, metadata.origin()));  // before a family allocates by the counts
  LARDER_TRY(arch->from_gguf(metadata, config));
  LARDER_TRY(validate(config, metadata.origin()));
  return config;
}

Result<ModelConfig> config_from_gguf(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata();
  LARDER_ASSIGN(auto config, config_from_gguf(metadata));
  LARDER_TRY(read_rope_tensors(file, config));
  LARDER_TRY(validate(config, metadata.origin()));
  return config;
}

void config_to_gguf(const ModelConfig& config, GgufWriter& writer) {
  const std::string p = config.arch + ".";
  const auto put_u32 = [&](std::string_view key, std::uint32_t value) {
    writer.put(p + std::string(key), GgufType::u32, std::uint64_t{value});
  };
  writer.put("general.architecture", GgufType::string, config.arch);
  if (!config.name.empty()) writer.put("general.name", GgufType::string, config.name);
  put_u32("context_length", config.n_context_train);
  put_u32("embedding_length", config.n_embd);
  put_u32("block_count", config.n_layers);
  put_u32("feed_forward_length", config.n_ff);
  put_u32("attention.head_count", config.n_heads);
  put_u32("attention.head_count_kv", config.n_kv_heads);
  if (!config.has_latent()) {
    put_u32("attention.key_length", config.head_dim);
    put_u32("attention.value_length", config.head_dim);
  }
  writer.put(p + "attention.layer_norm_rms_epsilon", GgufType::f32,
             static_cast<double>(config.norm_eps));
  put_u32("vocab_size", config.n_vocab);
  write_rope(config, writer);
  if (const Arch* arch = find_arch(config.arch)) arch->to_gguf(config, writer);
}

std::vector<RopeTensor> rope_tensors(const RopeConfig& rope) {
  std::vector<RopeTensor> tensors;
  if (rope.scaling == RopeScaling::llama3) {
    tensors.push_back({std::string(kFrequencies), llama3_divisors(rope)});
  } else if (!rope.frequency_divisors.empty()) {
    tensors.push_back({std::string(kFrequencies), rope.frequency_divisors});
  }
  if (rope.scaling == RopeScaling::longrope) {
    tensors.push_back({std::string(kLongFactors), rope.long_factors});
    tensors.push_back({std::string(kShortFactors), rope.short_factors});
  }
  return tensors;
}

}  // namespace larder
