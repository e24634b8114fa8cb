// What policies want of a forward pass.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/rereading.h"
#include "engine/sequence_policy.h"
#include "model/forward_batch.h"
#include "policy/policy.h"

namespace larder {

/// The limits, raised to what sequences want whose rows are dropped by `policy`.
inline ForwardLimits with_policy(ForwardLimits limits, const Policy& policy,
                                 std::uint32_t block_tokens) noexcept {
  const MetSinks sinks = met_sinks(policy);
  limits.has_sinks = limits.has_sinks || sinks.n != 0;
  limits.n_capped = std::max(limits.n_capped, sinks.has_caps ? sinks.n : 0U);
  limits.sums_attention = limits.sums_attention || policy.score == Score::attention;
  limits.n_reread =
      std::max(limits.n_reread, max_reread_rows(policy.chunk, limits.max_context, block_tokens));
  return limits;
}

}  // namespace larder
