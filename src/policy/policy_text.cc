// A method with its parameters, as users write it.
#include <algorithm>
#include <string>
#include <vector>

#include "base/fail.h"
#include "policy/methods.h"

namespace larder {
namespace {

std::string joined(std::span<const std::string_view> names) {
  std::string text;
  for (const std::string_view name : names) text.append(text.empty() ? "" : ", ").append(name);
  return text;
}

/// "heads=FILE".
Result<void> set_heads(const Method& method, std::string_view path, Policy& policy,
                       std::string* heads) {
  if (!takes_heads(method.policy)) {
    return fail(Errc::invalid_argument,
                "kv-policy: {} cannot have heads=FILE: it deals its rows out to heads by itself, "
                "or decides for a whole layer",
                method.name);
  }
  if (heads == nullptr) {
    return fail(Errc::invalid_argument, "kv-policy: heads=FILE of {} cannot be named here",
                method.name);
  }
  if (path.empty()) {
    return fail(Errc::invalid_argument, "kv-policy: heads of {} names no file", method.name);
  }
  *heads = path;
  if (policy.head_file == HeadFile::none) policy.head_file = HeadFile::shares;
  return {};
}

Result<void> assign(const Method& method, std::string_view assignment, Policy& policy,
                    std::string* heads) {
  const std::size_t equals = assignment.find('=');
  const std::string_view name = assignment.substr(0, equals);
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view{} : assignment.substr(equals + 1);
  if (name == "heads") return set_heads(method, value, policy, heads);
  if (std::find(method.parameters.begin(), method.parameters.end(), name) ==
      method.parameters.end()) {
    return fail(Errc::invalid_argument, "kv-policy: {} has no parameter '{}'; it has: {}",
                method.name, name, joined(method.parameters));
  }
  return set_parameter(policy, name, value, fmt::format("kv-policy: {}", method.name));
}

/// "NAME:PARAMETER=VALUE,...", each value on its own.
Result<Policy> parse_parameters(std::string_view text, std::string* heads) {
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const Method* method = find_method(name);
  if (method == nullptr) {
    std::string known;
    for (const Method& m : methods()) known.append(m.name).append(", ");
    return fail(Errc::invalid_argument, "kv-policy '{}' is not known; there are: {}none", name,
                known);
  }
  Policy policy = method->policy;
  if (colon == std::string_view::npos) return policy;
  std::string_view rest = text.substr(colon + 1);
  std::vector<std::string_view> named;
  while (true) {
    const std::size_t comma = rest.find(',');
    const std::string_view assignment = rest.substr(0, comma);
    LARDER_TRY(assign(*method, assignment, policy, heads));
    named.push_back(assignment.substr(0, assignment.find('=')));
    if (std::count(named.begin(), named.end(), named.back()) > 1) {
      return fail(Errc::invalid_argument, "kv-policy: {}: '{}' is named twice", method->name,
                  named.back());
    }
    if (comma == std::string_view::npos) return policy;
    rest.remove_prefix(comma + 1);
  }
}

}  // namespace

bool names_no_policy(std::string_view text) noexcept {
  return text.empty() || text == "none" || text == "full";
}

Result<Policy> parse_policy(std::string_view text, std::string* heads) {
  LARDER_ASSIGN(const Policy policy, parse_parameters(text, heads));
  LARDER_TRY(check_policy(policy, fmt::format("kv-policy '{}'", text)));
  return policy;
}

}  // namespace larder
