#include "engine/kv_plan.h"

#include <algorithm>

#include "base/fail.h"
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

/// Beside each class one of blocks of the same size outside extents: RowPlan with heads apart.
void add_single_classes(KvPlan& plan) {
  const std::size_t n = plan.pool.classes.size();
  for (std::size_t c = 0; c < n; ++c) {
    if (plan.pool.classes[c].extent_blocks == 1) {
      plan.single_classes.push_back(static_cast<BlockClass>(c));
      continue;
    }
    plan.single_classes.push_back(static_cast<BlockClass>(plan.pool.classes.size()));
    plan.pool.classes.push_back({plan.pool.classes[c].block_bytes, 1});
  }
  plan.pool.n_spare_classes = plan.pool.classes.size() - n;
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
  add_single_classes(plan);
  return {};
}

std::uint32_t plan_max_stored(const KvPlan& plan) {
  std::uint32_t most = 0;
  for (const CacheLayer& layer : plan.rows.shape.layers) most = std::max(most, layer.max_stored);
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
      plan.rows.eviction ? fmt::format(", {} of them stored at most", plan_max_stored(plan)) : "");
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
                       const std::optional<EvictionOptions>& eviction, std::uint64_t ram_bytes) {
  KvPlan plan;
  LARDER_ASSIGN(plan.formats, layer_formats(options.kv, config.n_layers));
  const bool any_seals = std::any_of(
      plan.formats.begin(), plan.formats.end(),
      [](const KvFormats& formats) { return !formats.k->is_raw() || !formats.v->is_raw(); });
  plan.shape.raw_blocks = any_seals ? options.kv.raw_blocks : 0;
  LARDER_ASSIGN(plan.reading, reading_plan(eviction, options.kv));
  if (plan.reading) LARDER_TRY(check_reading(config, *plan.reading, options.kv));
  if (plan.reading) LARDER_TRY(check_sealed_choice(options, plan));
  LARDER_TRY(lay_out(config, options.kv.block_tokens, plan));
  if (eviction && !plan.reading) {
    LARDER_ASSIGN(plan.rows, plan_rows(config, options, plan, *eviction));
  } else {
    plan.rows = plan_all_rows(options, plan);
  }
  LARDER_ASSIGN(plan.keys, calibrated_keys(config, options, plan.formats));
  if (plan.keys != nullptr) set_keys(config, *plan.keys, plan.layouts);
  plan.bytes_per_sequence = bytes_of_sequence(options, plan, plan.rows, options.n_context);
  plan.pool.budget_bytes =
      options.kv.memory_bytes != 0
          ? options.kv.memory_bytes
          : bytes_of_sequence(options, plan, plan.rows, options.n_context, options.n_sequences);
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
