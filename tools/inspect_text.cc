#include <fmt/format.h>

#include <limits>
#include <utility>

#include "flag_values.h"
#include "inspect_facts.h"
#include "inspect_report.h"
#include "kv_arithmetic.h"
#include "table.h"

namespace larder {
namespace {

using Facts = std::vector<std::pair<std::string, std::string>>;

/// "327,680": digits in groups of three.
std::string grouped(double value) {
  std::string digits = fmt::format("{:.0f}", value);
  for (std::size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string heads_text(const ModelConfig& c) {
  if (c.has_latent()) {
    return fmt::format("{} of {} + {} channels (without + with rope), values of {}", c.n_heads,
                       c.latent.nope_dim, c.latent.rope_dim, c.latent.v_dim);
  }
  return fmt::format("{} query, {} KV ({}, {} query heads per KV head), head_dim {}", c.n_heads,
                     c.n_kv_heads, head_sharing_name(c), c.n_heads / c.n_kv_heads, c.head_dim);
}

/// What changes the cache or the weights' use beyond heads.
void add_structure_facts(const ModelConfig& c, Facts& facts) {
  if (c.has_latent()) {
    std::string text = fmt::format("{} latent + {} rope channels cached per token and layer (MLA)",
                                   c.latent.kv_rank, c.latent.rope_dim);
    if (c.latent.q_rank != 0) text += fmt::format("; query latent {}", c.latent.q_rank);
    facts.emplace_back("latent", std::move(text));
  }
  if (c.n_owners() != c.n_layers) {
    facts.emplace_back("shared layers",
                       fmt::format("{} of {} layers have K and V, the others read theirs (CLA)",
                                   c.n_owners(), c.n_layers));
  }
  const ExpertConfig& e = c.experts;
  if (e.n_experts != 0) {
    facts.emplace_back(
        "experts",
        fmt::format("{} of width {}, {} per token, {} shared, in {} of {} layers", e.n_experts,
                    e.n_ff, e.n_used, e.n_shared, c.n_layers - e.n_dense_layers, c.n_layers));
  }
}

std::string context_text(const ModelConfig& c) {
  std::string text = fmt::format("{} tokens; rope base {:g}", c.n_context_train, c.rope.base);
  if (c.rope.scaling != RopeScaling::none) {
    text += fmt::format(", {} scaling", rope_scaling_name(c.rope.scaling));
    if (c.rope.factor != 1.0F) text += fmt::format(" by {:g}", c.rope.factor);
  }
  return text;
}

void add_config_facts(const ModelConfig& c, Facts& facts) {
  facts.emplace_back("layers",
                     fmt::format("{}, width {}, feed-forward {}", c.n_layers, c.n_embd, c.n_ff));
  facts.emplace_back("heads", heads_text(c));
  add_structure_facts(c, facts);
  facts.emplace_back("context", context_text(c));
  if (const std::uint32_t n = n_windowed_layers(c)) {
    facts.emplace_back("sliding window",
                       fmt::format("{} tokens in {} of {} layers", c.window, n, c.n_layers));
  }
}

std::string vocabulary_text(const TokenizerData& data) {
  if (data.tokens.empty()) return "none in the file";
  std::string text = fmt::format("{} tokens, {}", data.tokens.size(), tokenizer_name(data));
  if (!data.pre.empty()) text += fmt::format(" ({})", data.pre);
  if (data.bos != kNoToken) text += fmt::format("; BOS {}", data.bos);
  if (data.eos != kNoToken) text += fmt::format("; EOS {}", data.eos);
  return text;
}

std::string weights_text(const ModelSource& source) {
  return fmt::format("{}, {} in {} tensors, {} parameters", source.weights_description(),
                     show_bytes(static_cast<double>(source.weights_bytes())),
                     source.tensor_names().size(),
                     grouped(static_cast<double>(n_parameters(source))));
}

std::string facts_text(const ModelSource& source, const InspectOptions& options) {
  const ModelConfig& config = source.config();
  Facts facts;
  facts.emplace_back("file", source.path());
  facts.emplace_back("name", config.name.empty() ? "not given" : config.name);
  facts.emplace_back("family", config.arch.empty() ? "not given" : config.arch);
  if (has_config(config)) add_config_facts(config, facts);
  facts.emplace_back("vocabulary", vocabulary_text(source.tokenizer()));
  facts.emplace_back("chat template", source.tokenizer().chat_template.empty() ? "no" : "yes");
  if (options.not_a_model.empty()) {
    facts.emplace_back("weights", weights_text(source));
  } else {
    facts.emplace_back("not a model", options.not_a_model);
  }
  return fact_list(facts);
}

std::string formula_text(const ModelConfig& config) {
  std::string text = "\nKV cache, bytes per token (";
  if (config.has_latent()) {
    return text + fmt::format(
                      "MLA: {} layers x ({} latent + {} rope) x bytes per element;\n"
                      "MHA: {} layers x heads x ({} + {}) x bytes per element)\n",
                      config.n_layers, config.latent.kv_rank, config.latent.rope_dim,
                      config.n_layers, config.head_dim, config.latent.v_dim);
  }
  text += "2 x layers x KV heads x head_dim x bytes per element";
  if (config.n_owners() != config.n_layers) {
    text += fmt::format("; CLA: {} layers that have K and V", config.n_owners());
  }
  return text + ")\n";
}

std::string token_table(const ModelConfig& config) {
  Table table;
  table.header = {"heads"};
  for (const KvCodec* codec : storable_formats(config)) table.header.emplace_back(codec->name);
  table.header.emplace_back("");
  for (const KvSharing& sharing : kv_sharings(config)) {
    const bool latent = sharing.as_stored && config.has_latent();
    std::vector<std::string> row = {
        latent ? fmt::format("{}, {} channels", sharing.name, config.latent.row_dim())
               : fmt::format("{}, {} KV", sharing.name, sharing.n_kv_heads)};
    for (const KvCodec* codec : storable_formats(config)) {
      row.push_back(
          grouped(token_bytes({&config, codec, codec, sharing.n_kv_heads, sharing.as_stored})));
    }
    row.emplace_back(sharing.actual ? "<- as it is" : "");
    table.rows.push_back(std::move(row));
  }
  std::string text = formula_text(config) + plain_table(table);
  const KvFacts kv{&config, kv_codecs().front(), kv_codecs().front(), config.n_kv_heads};
  if (n_growing_layers(kv) != n_storing_layers(kv)) {
    text += fmt::format("Beyond the window of {} tokens only {} of {} layers grow.\n",
                        config.window, n_growing_layers(kv), n_storing_layers(kv));
  }
  return text;
}

std::string cache_table(const ModelConfig& config) {
  Table table;
  table.header = {"context"};
  for (const KvCodec* codec : storable_formats(config)) table.header.emplace_back(codec->name);
  for (const std::uint64_t n_tokens : typical_contexts(config)) {
    std::vector<std::string> row = {fmt::format("{} tokens", n_tokens)};
    for (const KvCodec* codec : storable_formats(config)) {
      row.push_back(show_bytes(cache_bytes({&config, codec, codec, config.n_kv_heads}, n_tokens)));
    }
    table.rows.push_back(std::move(row));
  }
  return table.rows.empty() ? "" : "\nKV cache of one sequence\n" + plain_table(table);
}

std::string longest_table(const ModelConfig& config, const InspectOptions& options) {
  Table table;
  table.header = {"memory"};
  for (const KvCodec* codec : storable_formats(config)) table.header.emplace_back(codec->name);
  for (const std::uint64_t n_bytes : options.memory_bytes) {
    std::vector<std::string> row = {show_bytes(static_cast<double>(n_bytes))};
    for (const KvCodec* codec : storable_formats(config)) {
      const std::uint64_t n = longest_context({&config, codec, codec, config.n_kv_heads}, n_bytes);
      row.push_back(
          n == std::numeric_limits<std::uint64_t>::max() ? "any" : grouped(static_cast<double>(n)));
    }
    table.rows.push_back(std::move(row));
  }
  return "\nLongest context for a KV cache of given size, tokens\n" + plain_table(table);
}

std::string tensor_table(const ModelSource& source) {
  Table table;
  table.header = {"tensor", "type", "shape", "bytes"};
  for (const std::string& name : source.tensor_names()) {
    const auto view = source.find(name);
    if (!view) continue;
    std::string shape;
    for (std::uint32_t i = 0; i < view->n_dims; ++i) {
      shape += fmt::format("{}{}", i == 0 ? "" : " x ", view->shape[i]);
    }
    table.rows.push_back({name, std::string(dtype_info(view->dtype).name), shape,
                          grouped(static_cast<double>(view->bytes.size()))});
  }
  return "\n" + plain_table(table);
}

}  // namespace

std::string inspect_text(const ModelSource& source, const InspectOptions& options) {
  std::string text = facts_text(source, options);
  if (has_config(source.config())) {
    text += token_table(source.config());
    text += cache_table(source.config());
    text += longest_table(source.config(), options);
  }
  if (options.tensors) text += tensor_table(source);
  return text;
}

}  // namespace larder
