// Policies as people write them, their files and files of weights of heads: nothing crashes or grows
// without bound, and what is accepted keeps its promises.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "policy/head_budgets.h"
#include "policy/methods.h"
#include "policy/policy_file.h"

namespace {

using larder::KeepBudget;
using larder::Policy;

/// Rows of texts of all lengths: the protected ones stay, and no layer has more than it may.
void check_rows(const Policy& policy, const KeepBudget& budget) {
  LARDER_CHECK(larder::check_policy(policy, "fuzz").has_value());
  for (const std::uint32_t n_prompt : {1U, 100U, 1U << 24}) {
    const std::uint32_t n_keep = larder::rows_to_keep(policy, budget, n_prompt);
    LARDER_CHECK(n_keep >= 1 && n_keep >= policy.sinks + policy.recent);
    LARDER_CHECK(larder::protected_newest(policy, n_keep) <= n_keep);
    for (const std::uint32_t layer : {0U, 1U, 15U}) {
      const std::uint32_t most = larder::most_rows_of_layer(policy, n_keep, layer, 16);
      const std::uint32_t n_tokens = std::max(n_prompt, n_keep);  // else none would go
      LARDER_CHECK(larder::rows_of_layer(policy, n_keep, layer, 16, n_tokens) <= most);
      LARDER_CHECK(larder::max_stored_rows(policy, n_keep, n_prompt, layer, 16) <= n_prompt);
    }
  }
}

void check_policy_text(std::string_view text) {
  std::string heads;
  const auto own = larder::parse_policy(text, &heads);
  const auto strange = larder::parse_policy(text);
  // Whoever may name no file gets the same without one.
  if (strange) LARDER_CHECK(own.has_value() && *own == *strange && heads.empty());
  if (!own) LARDER_CHECK(!own.error().message.empty());
  const auto budget = larder::parse_keep(text);
  if (budget) {
    LARDER_CHECK(budget->n_tokens != 0 || budget->n_bytes != 0 ||
                 (budget->share > 0 && budget->share < 1));
  }
  if (own) check_rows(*own, {.n_tokens = larder::kMaxSinks});
}

void check_policy_file(std::string_view text) {
  const auto file = larder::parse_policy_file(text, "fuzz");
  if (!file) {
    LARDER_CHECK(!file.error().message.empty());
    return;
  }
  check_rows(file->policy, {.share = 0.25});
}

void check_heads(std::string_view text) {
  const auto heads = larder::parse_head_weights(text, "fuzz");
  if (!heads) {
    LARDER_CHECK(!heads.error().message.empty());
    return;
  }
  LARDER_CHECK(heads->weights.size() == std::size_t{heads->n_layers} * heads->n_heads);
  LARDER_CHECK(heads->n_layers <= 4096 && heads->n_heads <= 4096);
  std::vector<std::uint32_t> layers(heads->n_layers);
  std::iota(layers.begin(), layers.end(), 0U);
  for (const larder::HeadFile use : {larder::HeadFile::shares, larder::HeadFile::classes}) {
    Policy policy;
    policy.head_file = use;
    const auto shares = larder::head_shares(policy, *heads, layers);
    if (!shares) continue;
    for (const float share : shares->shares) {
      LARDER_CHECK(share == larder::HeadShares::kAll || share >= 0);
      larder::rows_of_head(policy, 512, share);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > larder::kMaxPolicyFileBytes) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_policy_text(text);
  check_policy_file(text);
  check_heads(text);
  return 0;
}
