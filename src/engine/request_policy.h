// What a request says of the rows that stay.
#pragma once

#include <optional>

#include "engine/eviction_options.h"
#include "larder/engine.h"
#include "larder/options.h"
#include "larder/result.h"

namespace larder {

struct PolicyChoice {
  bool is_own = true;                       // the engine's; else
  std::optional<EvictionOptions> eviction;  // this one; nothing: every row stays
};

/// Request::kv_policy and ::kv_keep beside the engine's options and what these say of a policy
/// (`own`). The texts may come from anybody: they are of bounded length, and name no files but by
/// repeating the engine's own. Errors, with the fields' names: invalid_argument (an unknown method
/// or parameter, a file, no budget, one that the protected rows exceed, texts that are too long),
/// unsupported (a method that reads in part, which the whole engine has or has not; a budget of the
/// request's own beside KvOptions::keep_total_bytes).
Result<PolicyChoice> policy_choice(const Request& request, const KvOptions& options,
                                   const std::optional<EvictionOptions>& own);

/// The error in words of a request: "kv_policy" where it says "kv-policy".
Error in_words_of_requests(Error error);

}  // namespace larder
