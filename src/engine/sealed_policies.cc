#include "engine/sealed_policies.h"

#include "base/fail.h"
#include "kernels/repack_rows.h"

namespace larder {
namespace {

/// Whether rows stay or go a block at a time, so that none has to be taken out of one.
bool moves_whole_blocks(const EvictionOptions& eviction, std::uint32_t block_tokens) {
  const Policy& policy = eviction.policy;
  return policy.score == Score::position && !policy.at_prompt_end &&
         policy.head_file == HeadFile::none && policy.merging == Merging::none &&
         policy.sinks % block_tokens == 0 && policy.every % block_tokens == 0 &&
         eviction.budget.n_tokens != 0 && eviction.budget.n_tokens % block_tokens == 0;
}

/// Why rows that the policy drops cannot be taken out of sealed blocks one by one; empty: they can.
std::string repacking_refusal(const Policy& policy, const KvLayout& layout,
                              std::uint32_t block_tokens) {
  if (!moves_sealed_rows(layout)) {
    return "formats whose rows have scales in common give no single rows away without rounding the "
           "others a second time";
  }
  if (policy.sink_distance != SinkDistance::in_text) {
    return fmt::format(
        "sealed formats hold whole blocks, so sinks, every and kv-keep must be "
        "multiples of {} tokens",
        block_tokens);
  }
  if (policy.splits_heads || policy.fits_patterns || policy.head_file != HeadFile::none) {
    return "KV heads that keep different numbers of rows need raw formats: f32, f16 or bf16";
  }
  if (policy.merging != Merging::none) {
    return "values that take up others would be rounded a second time: merging needs raw formats, "
           "f32, f16 or bf16";
  }
  return "";
}

/// What turns keys to their positions is told by their places in the table.
Result<void> check_turned_drops(const KvPlan& plan, std::uint32_t layer,
                                const EvictionOptions& eviction) {
  if (plan.formats[layer].k->before_rope == nullptr) return {};
  return fail(Errc::unsupported,
              "kv-policy '{}' cannot be used with cache-type-k {} of layer {}: keys are stored as "
              "they were before rope, and where rows were dropped a block does not know its "
              "positions",
              eviction.policy_text, plan.formats[layer].k->name, layer);
}

}  // namespace

// Rows move in whole blocks, or one by one with their codes; and whether a block is raw is told by
// its place in the table, so that raw first ones must not go: those behind them would take their
// places.
Result<void> check_sealed_drops(const KvPlan& plan, std::uint32_t layer, RowPlan& rows) {
  const EvictionOptions& eviction = *rows.eviction;
  LARDER_TRY(check_turned_drops(plan, layer, eviction));
  const std::uint32_t n = plan.shape.block_tokens;
  if (!moves_whole_blocks(eviction, n)) {
    const std::string refusal = repacking_refusal(eviction.policy, plan.layouts[layer], n);
    if (!refusal.empty()) {
      return fail(Errc::unsupported,
                  "kv-policy '{}' cannot be used with cache-type {} of layer {}: {}",
                  eviction.policy_text, formats_text({plan.formats[layer]}), layer, refusal);
    }
    rows.shape.layers[layer].repacks = true;
  }
  const std::uint32_t n_raw = plan.shape.raw_blocks;
  if (eviction.policy.sinks >= n_raw * n) return {};
  return fail(
      Errc::unsupported,
      "kv-policy '{}' has {} sinks, but kv-raw-blocks {} are the first {} rows of layer {}, "
      "which must all be sinks: name more of these (at most {}), or fewer raw blocks",
      eviction.policy_text, eviction.policy.sinks, n_raw, n_raw * n, layer, kMaxSinks);
}

Result<void> check_sealed_choice(const EngineOptions& options, const KvPlan& plan) {
  for (std::size_t layer = 0; layer < plan.formats.size(); ++layer) {
    if (plan.formats[layer].k->before_rope == nullptr) continue;
    return fail(
        Errc::unsupported,
        "kv-policy '{}' cannot be used with cache-type-k {} of layer {}: keys are stored as "
        "they were before rope, and of blocks that were chosen the position is not known",
        options.kv.policy, plan.formats[layer].k->name, layer);
  }
  return {};
}

}  // namespace larder
