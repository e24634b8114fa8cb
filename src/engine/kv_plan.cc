#include "engine/kv_plan.h"

#include <algorithm>

#include "base/fail.h"
#include "engine/rereading.h"
#include "engine/sealed_policies.h"
#include "model/kv_shape.h"

namespace larder {
namespace {

/// What a token and layer store.
std::string row_text(const KvPlan& plan, const ModelConfig& config) {
  if (config.has_latent()) {
    return fmt::format("({} rope channels as K + {} latent ones as V) x ({})",
                       config.latent.rope_dim, config.latent.kv_rank, formats_text(plan.formats));
  }
  return fmt::format("{} KV heads x {} channels x ({})", config.n_kv_heads, config.head_dim,
                     formats_text(plan.formats));
}

Result<void> check_storable(const KvFormats& formats, const ModelConfig& config,
                            std::uint32_t layer, const KvShape& shape) {
  if (config.has_latent() && formats.k->before_rope != nullptr) {
    return fail(
        Errc::unsupported,
        "layer {}: K (the rotated key) cannot be stored as {}: latent attention has no keys "
        "of heads before rope; choose another cache-type-k",
        layer, formats.k->name);
  }
  const std::string k = refusal_of_k(*formats.k, shape), v = refusal_of_v(*formats.v, shape);
  if (k.empty() && v.empty()) return {};
  const bool latent = config.has_latent();
  const char* const part =
      k.empty() ? (latent ? "V (the latent)" : "V") : (latent ? "K (the rotated key)" : "K");
  return fail(Errc::unsupported, "layer {}: {} cannot be stored as {}: {}", layer, part,
              k.empty() ? formats.v->name : formats.k->name, k.empty() ? v : k);
}

/// Classes of blocks by their size; open blocks are none of the full ones' classes.
class BlockClasses {
 public:
  BlockClasses(std::vector<BlockClassSpec>& classes, std::uint32_t extent_blocks)
      : classes_(classes), extent_blocks_(extent_blocks) {}
  BlockClass find(std::size_t block_bytes, bool is_open) {
    for (std::size_t i = 0; i < classes_.size(); ++i) {
      if (classes_[i].block_bytes == block_bytes && is_open_[i] == is_open) {
        return static_cast<BlockClass>(i);
      }
    }
    classes_.push_back({block_bytes, extent_blocks_});
    is_open_.push_back(is_open);
    return static_cast<BlockClass>(classes_.size() - 1);
  }

 private:
  std::vector<BlockClassSpec>& classes_;
  std::vector<bool> is_open_;
  std::uint32_t extent_blocks_;
};

/// Rows that a step's own queries need raw are there until the next layer stores its own.
Result<void> check_reader(const ModelConfig& config, std::uint32_t layer, const KvPlan& plan) {
  const std::uint32_t owner = config.owner(layer);
  if (!plan.layouts[owner].seals() || config.owner(layer - 1) == owner) return {};
  return fail(Errc::unsupported,
              "layer {} reads the rows of layer {}, which {} cannot store: other layers store rows "
              "between the two",
              layer, owner, formats_text({plan.formats[owner]}));
}

/// Layouts, layers and classes of blocks from the formats.
Result<void> lay_out(const ModelConfig& config, std::uint32_t block_tokens, KvPlan& plan) {
  const KvShape shape = kv_shape(config, block_tokens);
  BlockClasses classes(plan.pool.classes, std::min(config.n_kv_heads, kMaxExtentBlocks));
  plan.shape.block_tokens = block_tokens;
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    if (!config.owns_kv(layer)) {  // it reads another's rows and has no blocks of its own
      LARDER_TRY(check_reader(config, layer, plan));
      plan.formats[layer] = plan.formats[config.owner(layer)];
      plan.layouts.push_back(plan.layouts[config.owner(layer)]);
      plan.shape.layers.push_back(plan.shape.layers[config.owner(layer)]);
      plan.shape.layers.back().n_kv_heads = 0;
      plan.shape.layers.back().window = config.cache_window(layer);
      continue;
    }
    const KvFormats& formats = plan.formats[layer];
    LARDER_TRY(check_storable(formats, config, layer, shape));
    const bool is_marked = plan.reading && needs_marks(config, *plan.reading, layer);
    KvLayout layout = make_kv_layout(*formats.k, *formats.v, shape,
                                     is_marked ? plan.reading->rule.marks : BlockMarks::none);
    if (layout.seals()) layout.raw_blocks = plan.shape.raw_blocks;
    const std::size_t block_bytes = kv_block_bytes(layout, shape);
    const BlockClass full = classes.find(block_bytes, false);
    const BlockClass open = layout.seals() ? classes.find(layout.open_bytes, true) : full;
    plan.layouts.push_back(layout);
    plan.shape.layers.push_back({config.n_kv_heads, config.cache_window(layer), open, full});
    plan.bytes_per_token += std::uint64_t{config.n_kv_heads} * block_bytes;
  }
  plan.bytes_per_token /= block_tokens;
  return {};
}

/// Heads that keep different numbers of rows have blocks of their own, not extents with others'.
void part_heads(const ModelConfig& config, std::uint32_t n_keep, std::uint32_t n_context,
                KvPlan& plan) {
  plan.shape.heads_apart = true;
  for (BlockClassSpec& of : plan.pool.classes) of.extent_blocks = 1;
  std::vector<CacheLayer> layers;
  for (CacheLayer layer : plan.shape.layers) {
    if (layer.drops()) {
      const std::uint64_t most =
          std::uint64_t{layer.max_stored} + std::uint64_t{config.n_kv_heads - 1} * n_keep;
      layer.most_stored = static_cast<std::uint32_t>(std::min<std::uint64_t>(most, n_context));
    }
    layer.n_kv_heads = std::min(layer.n_kv_heads, 1U);
    layers.insert(layers.end(), config.n_kv_heads, layer);
  }
  plan.shape.layers = std::move(layers);
}

/// The same where a file says how many.
void part_heads_by_file(const ModelConfig& config, std::uint32_t n_keep, std::uint32_t n_context,
                        KvPlan& plan) {
  part_heads(config, n_keep, n_context, plan);
  const EvictionOptions& eviction = *plan.eviction;
  for (std::uint32_t l = 0; l < config.n_layers; ++l) {
    for (std::uint32_t head = 0; head < config.n_kv_heads; ++head) {
      CacheLayer& part = plan.shape.layers[std::size_t{l} * config.n_kv_heads + head];
      if (!part.drops()) continue;
      // Nothing goes before the text is longer than the mean.
      const std::uint32_t n_rows = std::max(
          n_keep, rows_of_head(eviction.policy, n_keep, eviction.shares.of(config.owner(l), head)));
      const std::uint64_t most = std::uint64_t{n_rows} + eviction.policy.every;
      const bool is_limited = eviction.policy.every != 0 && most < n_context;
      part.max_stored = is_limited ? static_cast<std::uint32_t>(most) : n_context;
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
Result<void> budget_in_tokens(const std::string& keep, std::span<const std::uint32_t> layers,
                              KvPlan& plan) {
  EvictionOptions& eviction = *plan.eviction;
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
  const std::uint64_t n_begun =
      is_even ? 0 : std::min<std::uint64_t>(plan.shape.block_tokens - 1, n_tokens);
  eviction.budget = {};
  eviction.budget.n_tokens =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(n_tokens - n_begun, 1U << 24));
  if (eviction.budget.n_tokens > policy.sinks + policy.recent) return {};
  return fail(
      Errc::invalid_argument,
      "kv-keep {} is {} rows of each layer and KV head ({} for {} of all), but {} first and "
      "{} newest ones stay in any case",
      keep, eviction.budget.n_tokens, format_bytes(run_bytes), plan.shape.block_tokens,
      policy.sinks, policy.recent);
}

/// The layers whose rows are the policy's to drop: windows drop rows by themselves.
Result<std::vector<std::uint32_t>> dropping_layers(const ModelConfig& config,
                                                   const EngineOptions& options,
                                                   const KvPlan& plan) {
  std::vector<std::uint32_t> layers;
  for (std::uint32_t l = 0; l < config.n_layers; ++l) {
    if (plan.shape.layers[config.owner(l)].window != 0) continue;
    if (config.layer_window(l) != 0) {
      return fail(Errc::unsupported,
                  "kv-policy '{}' cannot be used with layer {}: it has a window of {} tokens over "
                  "rows of layer {}, which has none",
                  options.kv.policy, l, config.window, config.owner(l));
    }
    if (!config.owns_kv(l)) continue;
    layers.push_back(l);
  }
  if (!layers.empty()) return layers;
  return fail(Errc::unsupported,
              "kv-policy '{}' has nothing to drop: every layer has a sliding window of {} tokens",
              options.kv.policy, config.window);
}

/// Whether rows are chosen without a look at them, and met where they stand.
bool suits_latent(const Policy& policy) {
  return (policy.score == Score::position || policy.score == Score::random) &&
         policy.sink_distance == SinkDistance::in_text && !policy.splits_heads &&
         policy.head_file == HeadFile::none && policy.merging == Merging::none;
}

Result<void> limit_rows(const ModelConfig& config, const EngineOptions& options, KvPlan& plan) {
  if (!plan.eviction) return {};
  const Policy& policy = plan.eviction->policy;
  const bool any_seals = std::any_of(plan.shape.layers.begin(), plan.shape.layers.end(),
                                     [](const CacheLayer& layer) { return layer.seals(); });
  if (config.has_latent() && (any_seals || !suits_latent(policy))) {
    return fail(
        Errc::unsupported,
        "kv-policy '{}' cannot be used with latent attention{}: its cached rows are no keys "
        "and values of heads, by which rows are chosen; window and random go, in raw "
        "formats",
        options.kv.policy, any_seals ? " in " + formats_text(plan.formats) : "");
  }
  LARDER_ASSIGN(const std::vector<std::uint32_t> layers, dropping_layers(config, options, plan));
  LARDER_TRY(budget_in_tokens(options.kv.keep, layers, plan));
  if (policy.chunk != 0 && any_seals) {
    return fail(Errc::unsupported,
                "kv-policy '{}' reads the prompt again, which needs raw formats, f32, f16 or bf16, "
                "but the cache-types are {}",
                options.kv.policy, formats_text(plan.formats));
  }
  bool repacks = false;  // in whole blocks, and then all layers have budgets of such
  for (const std::uint32_t l : layers) {
    if (plan.shape.layers[l].seals()) LARDER_TRY(check_sealed_drops(options, plan, l));
    repacks = repacks || plan.shape.layers[l].repacks;
  }
  const std::uint32_t n_block = options.kv.block_tokens;
  std::uint32_t n_keep = rows_to_keep(policy, plan.eviction->budget, options.n_context);
  if (repacks) n_keep = (n_keep + n_block - 1) / n_block * n_block;
  plan.max_rows += max_reread_rows(policy.chunk, options.n_context, options.kv.block_tokens);
  const auto n_layers = static_cast<std::uint32_t>(layers.size());
  for (std::uint32_t i = 0; i < n_layers; ++i) {
    CacheLayer& layer = plan.shape.layers[layers[i]];
    layer.max_stored = max_stored_rows(policy, n_keep, plan.max_rows, i, n_layers);
    // Its share of a pyramid is rounded up, too.
    if (layer.repacks) layer.max_stored = std::min(layer.max_stored + n_block - 1, plan.max_rows);
  }
  if (policy.splits_heads || policy.fits_patterns) part_heads(config, n_keep, plan.max_rows, plan);
  if (policy.head_file == HeadFile::none) return {};
  LARDER_TRY(share_among_heads(config, layers, *plan.eviction));
  part_heads_by_file(config, n_keep, plan.max_rows, plan);
  return {};
}

std::uint32_t plan_max_stored(const KvPlan& plan) {
  std::uint32_t most = 0;
  for (const CacheLayer& layer : plan.shape.layers) most = std::max(most, layer.max_stored);
  return most;
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
      "{} tokens x {} layers x {} = {} per token, {} per sequence in whole blocks of {} tokens{}{}",
      options.n_context, config.n_owners(), row_text(plan, config),
      format_bytes(plan.bytes_per_token), format_bytes(plan.bytes_per_sequence),
      options.kv.block_tokens,
      config.window != 0 ? fmt::format(", {}-token windows counted as such", config.window) : "",
      plan.eviction ? fmt::format(", {} of them stored at most", plan_max_stored(plan)) : "");
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
  KvPlan plan;
  LARDER_ASSIGN(plan.formats, layer_formats(options.kv, config.n_layers));
  const bool any_seals = std::any_of(
      plan.formats.begin(), plan.formats.end(),
      [](const KvFormats& formats) { return !formats.k->is_raw() || !formats.v->is_raw(); });
  plan.shape.raw_blocks = any_seals ? options.kv.raw_blocks : 0;
  LARDER_ASSIGN(plan.reading, reading_plan(options.kv));
  if (plan.reading) LARDER_TRY(check_reading(config, *plan.reading, options.kv));
  if (plan.reading) LARDER_TRY(check_sealed_choice(options, plan));
  LARDER_TRY(lay_out(config, options.kv.block_tokens, plan));
  LARDER_ASSIGN(plan.eviction, eviction_options(options.kv));
  if (plan.reading) plan.eviction.reset();
  plan.max_rows = options.n_context;
  LARDER_TRY(limit_rows(config, options, plan));
  LARDER_ASSIGN(plan.keys, calibrated_keys(config, options, plan.formats));
  if (plan.keys != nullptr) set_keys(config, *plan.keys, plan.layouts);
  std::vector<std::uint64_t> n_extents(plan.pool.classes.size());
  // Windows hold what is read again beside their own rows.
  count_for_context(plan.shape, plan.pool.classes, plan.max_rows,
                    options.n_batch + plan.max_rows - options.n_context, n_extents);
  plan.bytes_per_sequence = budget_for(plan.pool.classes, n_extents);
  for (std::uint64_t& n : n_extents) n *= options.n_sequences;
  plan.pool.budget_bytes = options.kv.memory_bytes != 0 ? options.kv.memory_bytes
                                                        : budget_for(plan.pool.classes, n_extents);
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
