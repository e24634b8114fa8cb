#include "engine/row_plan.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "engine/kv_plan.h"
#include "engine/rereading.h"
#include "engine/sealed_policies.h"

namespace larder {
namespace {

/// Heads that keep different numbers of rows have blocks of their own, not extents with others'.
void part_heads(const ModelConfig& config, std::uint32_t n_keep, const KvPlan& plan,
                RowPlan& rows) {
  rows.shape.heads_apart = true;
  std::vector<CacheLayer> layers;
  for (CacheLayer layer : rows.shape.layers) {
    if (layer.drops()) {
      const std::uint64_t most =
          std::uint64_t{layer.max_stored} + std::uint64_t{config.n_kv_heads - 1} * n_keep;
      layer.most_stored = static_cast<std::uint32_t>(std::min<std::uint64_t>(most, rows.max_rows));
    }
    layer.n_kv_heads = std::min(layer.n_kv_heads, 1U);
    layer.open_class = plan.single_class(layer.open_class);
    layer.sealed_class = plan.single_class(layer.sealed_class);
    layers.insert(layers.end(), config.n_kv_heads, layer);
  }
  rows.shape.layers = std::move(layers);
}

/// The same where a file says how many.
void part_heads_by_file(const ModelConfig& config, std::uint32_t n_keep, const KvPlan& plan,
                        RowPlan& rows) {
  part_heads(config, n_keep, plan, rows);
  const EvictionOptions& eviction = *rows.eviction;
  for (std::uint32_t l = 0; l < config.n_layers; ++l) {
    for (std::uint32_t head = 0; head < config.n_kv_heads; ++head) {
      CacheLayer& part = rows.shape.layers[std::size_t{l} * config.n_kv_heads + head];
      if (!part.drops()) continue;
      // Nothing goes before the text is longer than the mean.
      const std::uint32_t n_rows = std::max(
          n_keep, rows_of_head(eviction.policy, n_keep, eviction.shares.of(config.owner(l), head)));
      const std::uint64_t most = std::uint64_t{n_rows} + eviction.policy.every;
      const bool is_limited = eviction.policy.every != 0 && most < rows.max_rows;
      part.max_stored = is_limited ? static_cast<std::uint32_t>(most) : rows.max_rows;
      part.most_stored = 0;
    }
  }
}

Result<void> share_among_heads(const ModelConfig& config, std::span<const std::uint32_t> layers,
                               EvictionOptions& eviction) {
  const HeadWeights& heads = eviction.heads;
  if (heads.n_layers != config.n_layers || heads.n_heads != config.n_kv_heads) {
    return fail(
        Errc::invalid_argument, "{}: weights of {} layers x {} KV heads, but the model has {} x {}",
        eviction.heads_path, heads.n_layers, heads.n_heads, config.n_layers, config.n_kv_heads);
  }
  LARDER_ASSIGN(eviction.shares, head_shares(eviction.policy, heads, layers));
  return {};
}

/// A budget in bytes becomes one in tokens: whole blocks of all layers that drop rows. Where layers
/// or heads keep different numbers of rows, each may have begun a block.
Result<void> budget_in_tokens(std::span<const std::uint32_t> layers, const KvPlan& plan,
                              EvictionOptions& eviction) {
  if (eviction.budget.n_bytes == 0) return {};
  std::uint64_t run_bytes = 0;
  for (const std::uint32_t l : layers) {
    const CacheLayer& layer = plan.shape.layers[l];
    run_bytes += std::uint64_t{layer.n_kv_heads} *
                 plan.pool.classes[static_cast<std::size_t>(layer.sealed_class)].block_bytes;
  }
  const Policy& policy = eviction.policy;
  const bool is_even = policy.allocation == Allocation::uniform && !policy.splits_heads &&
                       !policy.fits_patterns && policy.head_file == HeadFile::none;
  const std::uint64_t n_runs = eviction.budget.n_bytes / run_bytes;
  const std::uint64_t n_tokens = n_runs * plan.shape.block_tokens;
  // Where rows are sealed each rounds up to whole blocks.
  const bool seals = std::any_of(layers.begin(), layers.end(),
                                 [&](std::uint32_t l) { return plan.shape.layers[l].seals(); });
  const std::uint32_t n_more = plan.shape.block_tokens - (seals ? 0 : 1);
  const std::uint64_t n_begun = is_even ? 0 : std::min<std::uint64_t>(n_more, n_tokens);
  eviction.budget = {};
  eviction.budget.n_tokens =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(n_tokens - n_begun, 1U << 24));
  if (eviction.budget.n_tokens > policy.sinks + policy.recent) return {};
  return fail(
      Errc::invalid_argument,
      "kv-keep {} is {} rows of each layer and KV head ({} for {} of all), but {} first and "
      "{} newest ones stay in any case",
      eviction.keep_text, eviction.budget.n_tokens, format_bytes(run_bytes),
      plan.shape.block_tokens, policy.sinks, policy.recent);
}

/// The layers whose rows are the policy's to drop: windows drop rows by themselves.
Result<std::vector<std::uint32_t>> dropping_layers(const ModelConfig& config, const KvPlan& plan,
                                                   const EvictionOptions& eviction) {
  std::vector<std::uint32_t> layers;
  for (std::uint32_t l = 0; l < config.n_layers; ++l) {
    if (plan.shape.layers[config.owner(l)].window != 0) continue;
    if (config.layer_window(l) != 0) {
      return fail(Errc::unsupported,
                  "kv-policy '{}' cannot be used with layer {}: it has a window of {} tokens over "
                  "rows of layer {}, which has none",
                  eviction.policy_text, l, config.window, config.owner(l));
    }
    if (!config.owns_kv(l)) continue;
    layers.push_back(l);
  }
  if (!layers.empty()) return layers;
  return fail(Errc::unsupported,
              "kv-policy '{}' has nothing to drop: every layer has a sliding window of {} tokens",
              eviction.policy_text, config.window);
}

/// Whether rows are chosen without a look at them, and met where they stand.
bool suits_latent(const Policy& policy) {
  return (policy.score == Score::position || policy.score == Score::random) &&
         policy.sink_distance == SinkDistance::in_text && !policy.splits_heads &&
         policy.head_file == HeadFile::none && policy.merging == Merging::none;
}

Result<void> check_formats_allow(const ModelConfig& config, const KvPlan& plan,
                                 const EvictionOptions& eviction) {
  const bool any_seals = std::any_of(plan.shape.layers.begin(), plan.shape.layers.end(),
                                     [](const CacheLayer& layer) { return layer.seals(); });
  if (config.has_latent() && (any_seals || !suits_latent(eviction.policy))) {
    return fail(
        Errc::unsupported,
        "kv-policy '{}' cannot be used with latent attention{}: its cached rows are no keys "
        "and values of heads, by which rows are chosen; window and random go, in raw "
        "formats",
        eviction.policy_text, any_seals ? " in " + formats_text(plan.formats) : "");
  }
  if (eviction.policy.chunk != 0 && any_seals) {
    return fail(Errc::unsupported,
                "kv-policy '{}' reads the prompt again, which needs raw formats, f32, f16 or bf16, "
                "but the cache-types are {}",
                eviction.policy_text, formats_text(plan.formats));
  }
  return {};
}

/// The bounds of the layers that drop rows; how many rows they keep on average at most.
std::uint32_t limit_layers(std::span<const std::uint32_t> layers, std::uint32_t n_context,
                           RowPlan& rows) {
  const Policy& policy = rows.eviction->policy;
  const std::uint32_t n_block = rows.shape.block_tokens;
  const bool repacks = std::any_of(layers.begin(), layers.end(),
                                   [&](std::uint32_t l) { return rows.shape.layers[l].repacks; });
  std::uint32_t n_keep = rows_to_keep(policy, rows.eviction->budget, n_context);
  // In whole blocks, and then all layers have budgets of such.
  if (repacks) n_keep = (n_keep + n_block - 1) / n_block * n_block;
  const auto n_layers = static_cast<std::uint32_t>(layers.size());
  for (std::uint32_t i = 0; i < n_layers; ++i) {
    CacheLayer& layer = rows.shape.layers[layers[i]];
    layer.max_stored = max_stored_rows(policy, n_keep, rows.max_rows, i, n_layers);
    // Its share of a pyramid is rounded up, too.
    if (layer.repacks) layer.max_stored = std::min(layer.max_stored + n_block - 1, rows.max_rows);
  }
  return n_keep;
}

}  // namespace

RowPlan plan_all_rows(const EngineOptions& options, const KvPlan& plan) {
  return {std::nullopt, plan.shape, options.n_context};
}

Result<RowPlan> plan_rows(const ModelConfig& config, const EngineOptions& options,
                          const KvPlan& plan, EvictionOptions eviction) {
  LARDER_TRY(check_formats_allow(config, plan, eviction));
  LARDER_ASSIGN(const std::vector<std::uint32_t> layers, dropping_layers(config, plan, eviction));
  LARDER_TRY(budget_in_tokens(layers, plan, eviction));
  RowPlan rows = plan_all_rows(options, plan);
  rows.eviction = std::move(eviction);
  const Policy& policy = rows.eviction->policy;
  for (const std::uint32_t l : layers) {
    if (plan.shape.layers[l].seals()) LARDER_TRY(check_sealed_drops(plan, l, rows));
  }
  rows.max_rows += max_reread_rows(policy.chunk, options.n_context, options.kv.block_tokens);
  const std::uint32_t n_keep = limit_layers(layers, options.n_context, rows);
  if (policy.splits_heads || policy.fits_patterns) part_heads(config, n_keep, plan, rows);
  if (policy.head_file == HeadFile::none) return rows;
  LARDER_TRY(share_among_heads(config, layers, *rows.eviction));
  part_heads_by_file(config, n_keep, plan, rows);
  return rows;
}

std::uint64_t bytes_of_sequence(const EngineOptions& options, const KvPlan& plan,
                                const RowPlan& rows, std::uint32_t n_tokens,
                                std::uint32_t n_sequences) {
  const std::uint32_t n_chunk = rows.eviction ? rows.eviction->policy.chunk : 0;
  const std::uint32_t n_reread = max_reread_rows(n_chunk, n_tokens, options.kv.block_tokens);
  std::vector<std::uint64_t> n_extents(plan.pool.classes.size());
  // Windows hold what is read again beside their own rows.
  count_for_context(rows.shape, plan.pool.classes, n_tokens + n_reread, options.n_batch + n_reread,
                    n_extents);
  for (std::uint64_t& n : n_extents) n *= n_sequences;
  return budget_for(plan.pool.classes, n_extents);
}

}  // namespace larder
