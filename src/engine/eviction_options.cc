#include "engine/eviction_options.h"

#include "base/fail.h"
#include "policy/methods.h"

namespace larder {

Result<std::optional<EvictionOptions>> eviction_options(const KvOptions& options) {
  if (options.policy.empty()) {
    if (options.keep.empty()) return std::nullopt;
    return fail(Errc::invalid_argument, "kv-keep is '{}', but there is no kv-policy", options.keep);
  }
  EvictionOptions eviction;
  LARDER_ASSIGN(eviction.policy, parse_policy(options.policy));
  if (options.keep.empty()) {
    return fail(Errc::invalid_argument,
                "kv-policy '{}' needs a kv-keep: tokens, or a share of the prompt as 0.25",
                options.policy);
  }
  LARDER_ASSIGN(eviction.budget, parse_keep(options.keep));
  LARDER_TRY(check_budget(eviction.policy, eviction.budget));
  return eviction;
}

std::string eviction_text(const KvOptions& options) {
  const auto budget = parse_keep(options.keep);
  const bool is_share = budget && budget->n_tokens == 0;
  return fmt::format("{}, {} {} kept", options.policy, options.keep,
                     is_share ? "of the prompt" : "rows");
}

}  // namespace larder
