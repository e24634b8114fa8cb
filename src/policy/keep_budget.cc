// Texts of budgets.
#include <cstdlib>

#include "base/fail.h"
#include "policy/methods.h"

namespace larder {
namespace {

constexpr std::uint32_t kMaxTokens = 1U << 24;

/// "64M"; 0: no such thing.
std::uint64_t parse_bytes(const std::string& text) {
  if (text.empty()) return 0;
  const std::size_t unit = std::string_view("KMG").find(text.back());
  if (unit == std::string_view::npos) return 0;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || end + 1 != text.c_str() + text.size()) return 0;
  if (!(value > 0 && value <= 1 << 20)) return 0;
  return static_cast<std::uint64_t>(value * static_cast<double>(1ULL << (10 * (unit + 1))));
}

}  // namespace

Result<KeepBudget> parse_keep(std::string_view text) {
  const std::string copy(text);
  if (const std::uint64_t n_bytes = parse_bytes(copy)) return KeepBudget{.n_bytes = n_bytes};
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);
  const bool is_number = !copy.empty() && end == copy.c_str() + copy.size();
  if (is_number && value > 0 && value < 1) return KeepBudget{.share = value};
  const auto n =
      is_number && value >= 2 && value <= kMaxTokens ? static_cast<std::uint32_t>(value) : 0U;
  if (n != 0 && static_cast<double>(n) == value) return KeepBudget{.n_tokens = n};
  return fail(Errc::invalid_argument,
              "kv-keep must be a share of the prompt between 0 and 1, as 0.25, 2 to {} tokens, or "
              "bytes as 64M, not '{}'",
              kMaxTokens, text);
}

Result<void> check_budget(const Policy& policy, const KeepBudget& budget) {
  const std::uint32_t n_protected = policy.sinks + policy.recent;
  if (budget.n_tokens == 0 || budget.n_tokens > n_protected) return {};
  return fail(
      Errc::invalid_argument,
      "kv-keep is {} tokens, but {} first and {} newest ones stay in any case: give it more "
      "than {}, or the policy smaller sinks or recent",
      budget.n_tokens, policy.sinks, policy.recent, n_protected);
}

}  // namespace larder
