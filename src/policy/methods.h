// Published methods by name.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "larder/result.h"
#include "policy/policy.h"

namespace larder {

/// A row of the table: a name for a policy.
struct Method {
  std::string_view name;
  std::string_view description;  // one line
  std::string_view source;       // of the method, not of this code
  bool query_agnostic;           // what stays does not depend on what is asked at the end
  Policy policy;                 // with the method's own defaults
  std::span<const std::string_view> parameters;  // that its users may set
};

std::span<const Method> methods() noexcept;
const Method* find_method(std::string_view name) noexcept;

/// Value of a parameter that the method has. REQUIRES: one of `Method::parameters`
std::uint32_t parameter(const Policy& policy, std::string_view name) noexcept;

std::span<const std::string_view> parameters() noexcept;  // of all methods

/// Errors: invalid_argument (no number, out of range), which begin with `where`. REQUIRES: one of
/// parameters()
Result<void> set_parameter(Policy& policy, std::string_view name, std::string_view value,
                           std::string_view where);

/// Whether a file may deal the budget out to single KV heads.
bool takes_heads(const Policy& policy) noexcept;

/// "NAME" or "NAME:PARAMETER=VALUE,...", as in "knorm:recent=64,every=128". "heads=FILE" is a
/// parameter of every method whose policy takes heads; the path comes in `heads`, nothing is read.
/// Where that is null the text may come from anybody, and no file can be named. Errors:
/// invalid_argument (unknown method or parameter, one that is named twice, no number, out of range,
/// what check_policy refuses), with the text.
Result<Policy> parse_policy(std::string_view text, std::string* heads = nullptr);

/// Nothing, "none" or "full": every row stays.
bool names_no_policy(std::string_view text) noexcept;

/// Errors: invalid_argument (values with which no row would ever go, or that make no sense
/// together). `where` is what they begin with.
Result<void> check_policy(const Policy& policy, std::string_view where);

/// "512" tokens, a share of the prompt as in "0.25", or bytes as in "64M": K, M or G. Errors:
/// invalid_argument (no number, not above 0, 1 exactly, or more than 1 and no whole number).
Result<KeepBudget> parse_keep(std::string_view text);

/// Errors: invalid_argument when the protected rows alone are more than a budget in tokens.
Result<void> check_budget(const Policy& policy, const KeepBudget& budget);

}  // namespace larder
