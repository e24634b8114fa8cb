// Which policy an engine has.
#pragma once

#include <optional>
#include <string>

#include "larder/options.h"
#include "larder/result.h"
#include "policy/policy.h"

namespace larder {

struct EvictionOptions {
  Policy policy;
  KeepBudget budget;
};

/// What KvOptions::policy and ::keep say; nothing without a policy. Errors: invalid_argument (an
/// unknown method or parameter, no budget, one that the protected rows alone exceed, a budget
/// without a policy).
Result<std::optional<EvictionOptions>> eviction_options(const KvOptions& options);

/// "knorm, 512 rows kept", "streaming-llm, 0.25 of the prompt kept".
std::string eviction_text(const KvOptions& options);

}  // namespace larder
