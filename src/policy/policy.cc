#include "policy/policy.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace larder {

std::uint32_t rows_to_keep(const Policy& policy, const KeepBudget& budget,
                           std::uint32_t n_prompt) noexcept {
  const std::uint32_t n_wanted =
      budget.n_tokens != 0 ? budget.n_tokens
                           : static_cast<std::uint32_t>(std::ceil(budget.share * n_prompt));
  return std::max({n_wanted, policy.sinks + policy.recent, 1U});
}

std::uint32_t protected_newest(const Policy& policy, std::uint32_t n_keep) noexcept {
  const auto share =
      static_cast<std::uint32_t>(std::uint64_t{n_keep} * policy.recent_percent / 100);
  return std::min(std::max(policy.recent, share), n_keep - std::min(n_keep, policy.sinks));
}

std::uint32_t rows_of_layer(const Policy& policy, std::uint32_t n_keep, std::uint32_t index,
                            std::uint32_t n_layers, std::uint32_t n_tokens) noexcept {
  if (policy.allocation == Allocation::uniform || n_layers < 2) return n_keep;
  const std::uint32_t n_protected = policy.sinks + policy.recent;
  // The protected rows are everybody's; the rest is dealt out.
  const double mean = static_cast<double>(n_keep - std::min(n_keep, n_protected));
  const double room = static_cast<double>(n_tokens - std::min(n_tokens, n_protected));
  double least = mean / policy.beta, most = 2 * mean - least;
  if (most > room) {
    most = room;
    least = 2 * mean - most;
  }
  const double rows = most - (most - least) * index / (n_layers - 1);
  return n_protected + static_cast<std::uint32_t>(std::max(rows, 0.0));
}

// Of shorter texts the pyramid is flatter, and at its flattest every layer has the mean.
std::uint32_t most_rows_of_layer(const Policy& policy, std::uint32_t n_keep, std::uint32_t index,
                                 std::uint32_t n_layers) noexcept {
  return std::max(n_keep, rows_of_layer(policy, n_keep, index, n_layers, UINT32_MAX));
}

std::uint32_t max_stored_rows(const Policy& policy, std::uint32_t n_keep, std::uint32_t n_context,
                              std::uint32_t index, std::uint32_t n_layers) noexcept {
  if (policy.every == 0) return n_context;
  const std::uint64_t n =
      std::uint64_t{most_rows_of_layer(policy, n_keep, index, n_layers)} + policy.every;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(n, n_context));
}

}  // namespace larder
