// Which policy an engine has.
#pragma once

#include <optional>
#include <string>

#include "larder/options.h"
#include "larder/result.h"
#include "policy/head_budgets.h"
#include "policy/policy.h"

namespace larder {

struct EvictionOptions {
  Policy policy;
  KeepBudget budget;
  HeadWeights heads;  // of the file that the policy names; without layers: none
  HeadShares shares;  // of the model's heads, made of them: engine/kv_plan.h
  std::string heads_path;
};

/// What KvOptions::policy and ::keep say; nothing without a policy. A policy that ends in ".yaml"
/// is a file (policy/policy_file.h); those that it names are read. Errors: invalid_argument (an
/// unknown method or parameter, no budget, one that the protected rows alone exceed, a budget
/// without a policy, files that say no such thing), not_found.
Result<std::optional<EvictionOptions>> eviction_options(const KvOptions& options);

/// "knorm, 512 rows kept", "streaming-llm, 0.25 of the prompt kept", "snapkv, 64M a sequence kept".
std::string eviction_text(const KvOptions& options);

}  // namespace larder
