#include "engine/reading_plan.h"

#include <algorithm>

#include "base/fail.h"

namespace larder {
namespace {

constexpr std::uint32_t kLeastBlocks = 3;  // as Quest's authors do

/// Queries of windows are left alone.
bool chooses(const ModelConfig& config, const ReadingPlan& reading, std::uint32_t layer) {
  return layer >= reading.n_full_layers && config.layer_window(layer) == 0;
}

std::uint32_t blocks_of(std::uint32_t n_rows, const KvOptions& options) {
  return (n_rows + options.block_tokens - 1) / options.block_tokens;
}

/// What makes them more than three.
std::string least_text(const BlockRule& rule, std::uint32_t raw_blocks) {
  std::string text;
  if (rule.n_local > 0) text = fmt::format(" ({} first and {} newest", rule.n_first, rule.n_local);
  if (rule.n_local == 0 && raw_blocks > 0) text = fmt::format(" ({} raw", raw_blocks);
  return text.empty() ? text : text + ", its own, and one to choose)";
}

}  // namespace

Result<std::optional<ReadingPlan>> reading_plan(const std::optional<EvictionOptions>& eviction,
                                                const KvOptions& options) {
  if (!eviction || eviction->policy.reading == Reading::all) return std::nullopt;
  const KeepBudget& keep = eviction->budget;
  if (keep.n_bytes != 0) {
    return fail(Errc::invalid_argument,
                "kv-keep is '{}', but kv-policy '{}' keeps every row: name the rows that are read, "
                "in tokens or as a share of what is cached",
                eviction->keep_text, eviction->policy_text);
  }
  const Policy& policy = eviction->policy;
  ReadingPlan plan;
  plan.n_full_layers = policy.full_layers;
  BlockRule& rule = plan.rule;
  rule.n_first = std::max(blocks_of(policy.sinks, options), options.raw_blocks);
  if (policy.reading == Reading::by_representatives) {
    rule.marks = BlockMarks::samples;
    rule.n_local = std::max(blocks_of(policy.recent, options), 1U);
    rule.n_representatives = policy.representatives;
    plan.form_rows = options.block_tokens;
  }
  rule.n_least = std::max(kLeastBlocks, rule.n_first + rule.n_local + 2);
  rule.share = keep.share;
  if (keep.n_tokens == 0) return plan;
  rule.n_blocks = keep.n_tokens / options.block_tokens;
  if (rule.n_blocks >= rule.n_least) return plan;
  return fail(Errc::invalid_argument,
              "kv-keep is {} tokens, {} blocks of {}, but kv-policy '{}' reads {} at least{}: name "
              "{} tokens or more",
              keep.n_tokens, rule.n_blocks, options.block_tokens, options.policy, rule.n_least,
              least_text(rule, options.raw_blocks), rule.n_least * options.block_tokens);
}

Result<void> check_reading(const ModelConfig& config, const ReadingPlan& reading,
                           const KvOptions& options) {
  if (config.has_latent()) {
    return fail(Errc::unsupported,
                "kv-policy '{}' cannot be used with latent attention: its cached rows are no keys "
                "of heads, by whose bounds blocks are chosen",
                options.policy);
  }
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    if (chooses(config, reading, layer)) return {};
  }
  return fail(Errc::unsupported,
              "kv-policy '{}' has no layer whose queries would choose: of {} the first {} read "
              "everything, and those with a sliding window are left alone",
              options.policy, config.n_layers, reading.n_full_layers);
}

bool needs_marks(const ModelConfig& config, const ReadingPlan& reading,
                 std::uint32_t owner) noexcept {
  for (std::uint32_t layer = owner; layer < config.n_layers; ++layer) {
    if (config.owner(layer) == owner && chooses(config, reading, layer)) return true;
  }
  return false;
}

std::string reading_text(const EvictionOptions& eviction) {
  return fmt::format("{}, {} {} read", eviction.policy_text, eviction.keep_text,
                     eviction.budget.n_tokens != 0 ? "rows" : "of the rows");
}

}  // namespace larder
