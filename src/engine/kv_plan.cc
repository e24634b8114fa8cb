#include "engine/kv_plan.h"

#include <algorithm>

#include "base/fail.h"

namespace larder {
namespace {

constexpr std::size_t round_up(std::size_t n, std::size_t unit) {
  return (n + unit - 1) / unit * unit;
}

/// What a token and layer store.
std::string row_text(const KvPlan& plan, const ModelConfig& config) {
  if (config.has_latent()) {
    return fmt::format("({} latent + {} rope channels) x {}", config.latent.kv_rank,
                       config.latent.rope_dim, plan.v->name);
  }
  return fmt::format("{} KV heads x {} channels x (K {} + V {})", config.n_kv_heads,
                     config.head_dim, plan.k->name, plan.v->name);
}

/// The K part, if any, and the V part of a block; latent attention has one row for both.
std::size_t lay_out_block(const ModelConfig& config, std::uint32_t block_tokens, KvPlan& plan) {
  const bool latent = config.has_latent();
  const BlockShape block{block_tokens, latent ? config.latent.row_dim() : config.head_dim};
  plan.v_offset = latent ? 0 : round_up(plan.k->k_bytes(block), kBlockQuantum);
  return round_up(plan.v_offset + plan.v->v_bytes(block), kBlockQuantum);
}

Result<void> check_fits(const KvPlan& plan, const ModelConfig& config, const EngineOptions& options,
                        std::uint64_t ram) {
  if (options.kv.memory_bytes > ram) {
    return fail(Errc::invalid_argument,
                "kv-memory {} is more than the {} of memory that weights and activations leave",
                format_bytes(options.kv.memory_bytes), format_bytes(ram));
  }
  const bool named = options.kv.memory_bytes != 0;
  const std::uint64_t limit = named ? options.kv.memory_bytes : ram;
  const std::uint64_t needed = named ? plan.bytes_per_sequence : plan.pool.budget_bytes;
  if (needed <= limit) return {};
  const std::string arithmetic = fmt::format(
      "{} tokens x {} layers x {} = {} per token, {} per sequence in whole blocks of {} tokens{}",
      options.n_context, config.n_owners(), row_text(plan, config),
      format_bytes(plan.bytes_per_token), format_bytes(plan.bytes_per_sequence),
      options.kv.block_tokens,
      config.window != 0 ? fmt::format(", {}-token windows counted as such", config.window) : "");
  return named
             ? fail(Errc::invalid_argument,
                    "kv-memory {} cannot hold one sequence of the context: {}; give it {} or "
                    "more, or a smaller ctx-size",
                    format_bytes(limit), arithmetic, format_bytes(needed))
             : fail(Errc::invalid_argument,
                    "the KV cache of {} sequence(s) needs {}, weights and activations leave {} of "
                    "the machine's memory: {}; choose a "
                    "smaller ctx-size or parallel, or name a kv-memory",
                    options.n_sequences, format_bytes(needed), format_bytes(ram), arithmetic);
}

}  // namespace

Result<KvPlan> plan_kv(const ModelConfig& config, const EngineOptions& options,
                       std::uint64_t ram_bytes) {
  const auto k = parse_kv_format(options.kv.type_k);
  const auto v = parse_kv_format(options.kv.type_v);
  if (!k || !v) {
    std::string known;
    for (const KvCodec* codec : kv_codecs()) {
      known += (known.empty() ? "" : ", ") + std::string(codec->name);
    }
    return fail(Errc::invalid_argument, "cache-type-{} '{}' is not known; there are: {}",
                !k ? 'k' : 'v', !k ? options.kv.type_k : options.kv.type_v, known);
  }

  KvPlan plan;
  plan.k = &kv_codec(*k);
  plan.v = &kv_codec(*v);
  if (config.has_latent() && *k != *v) {
    return fail(Errc::invalid_argument,
                "cache-type-k '{}' and cache-type-v '{}' differ, but latent attention stores one "
                "row for both",
                options.kv.type_k, options.kv.type_v);
  }
  const std::size_t block_bytes = lay_out_block(config, options.kv.block_tokens, plan);

  plan.shape.block_tokens = options.kv.block_tokens;
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    // A layer that reads another's rows has no blocks of its own.
    const std::uint32_t n_heads = config.owns_kv(layer) ? config.n_kv_heads : 0;
    plan.shape.layers.push_back({n_heads, config.cache_window(layer), BlockClass{0}});
  }
  plan.pool.classes = {{block_bytes, std::min(config.n_kv_heads, kMaxExtentBlocks)}};
  plan.bytes_per_token =
      std::uint64_t{config.n_owners()} * config.n_kv_heads * block_bytes / options.kv.block_tokens;
  std::uint64_t one[1];
  count_for_context(plan.shape, plan.pool.classes, options.n_context, options.n_batch, one);
  const std::uint64_t all[] = {one[0] * options.n_sequences};
  plan.bytes_per_sequence = budget_for(plan.pool.classes, one);
  plan.pool.budget_bytes =
      options.kv.memory_bytes != 0 ? options.kv.memory_bytes : budget_for(plan.pool.classes, all);
  LARDER_TRY(check_fits(plan, config, options, ram_bytes));
  return plan;
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.4g} {}", value, kUnits[unit]);
}

}  // namespace larder
