// How many rows stay, as users write it.
#include <charconv>
#include <optional>
#include <string_view>

#include "base/fail.h"
#include "policy/methods.h"

namespace larder {
namespace {

constexpr std::uint32_t kMaxTokens = 1U << 24;

/// A number that fills the text: no blanks, no sign, no hexadecimal.
std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// "64M"; 0: no such thing.
std::uint64_t parse_bytes(std::string_view text) {
  if (text.empty()) return 0;
  const std::size_t unit = std::string_view("KMG").find(text.back());
  if (unit == std::string_view::npos) return 0;
  const double value = parse_number(text.substr(0, text.size() - 1)).value_or(0);
  if (!(value > 0 && value <= 1 << 20)) return 0;
  return static_cast<std::uint64_t>(value * static_cast<double>(1ULL << (10 * (unit + 1))));
}

}  // namespace

Result<KeepBudget> parse_keep(std::string_view text) {
  if (const std::uint64_t n_bytes = parse_bytes(text)) return KeepBudget{.n_bytes = n_bytes};
  const double value = parse_number(text).value_or(0);
  if (value > 0 && value < 1) return KeepBudget{.share = value};
  const auto n = value >= 2 && value <= kMaxTokens ? static_cast<std::uint32_t>(value) : 0U;
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
