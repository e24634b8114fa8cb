// Which policy an engine has.
#pragma once

#include <cstdint>
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
  HeadShares shares;  // of the model's heads, made of them: engine/row_plan.h
  std::string heads_path;
  std::string policy_text, keep_text;  // as users wrote them, files without their folders
};

/// What KvOptions::policy says together with ::keep or ::keep_total_bytes, of which each of
/// `n_sequences` has its part; nothing without a policy, or with "none" or "full". A policy that
/// ends in ".yaml" is a file (policy/policy_file.h); those that it names are read. Errors:
/// invalid_argument (an unknown method or parameter, no budget or two, one that the protected rows
/// alone exceed, a budget without a policy, files that say no such thing), not_found.
Result<std::optional<EvictionOptions>> eviction_options(const KvOptions& options,
                                                        std::uint32_t n_sequences = 1);

/// Whether policy and budget go together. Errors: invalid_argument.
Result<void> check_eviction(const EvictionOptions& eviction);

/// "knorm, 512 rows kept", "streaming-llm, 0.25 of the prompt kept", "snapkv, 64M a sequence kept".
std::string eviction_text(const EvictionOptions& eviction);

}  // namespace larder
