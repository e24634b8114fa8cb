// Policies written out in a file.
#pragma once

#include <string>
#include <string_view>

#include "larder/result.h"
#include "policy/policy.h"

namespace larder {

struct PolicyFile {
  Policy policy;
  std::string heads;  // path of a file of weights of KV heads; empty: none
};

inline constexpr std::size_t kMaxPolicyFileBytes = 1 << 16;

/// YAML: one mapping of names to values.
///   method: NAME          whose values are the ones that are not named (without: Policy's)
///   score, counting, allocation, sink-distance, merging, heads-get, at-prompt-end, joins-heads,
///   heads
///                         docs/eviction.md lists the words
///   and the parameters of all methods, whole numbers
/// `origin` names the text in errors: invalid_argument (no YAML, no mapping, unknown names or
/// words, names that the mixture does not read, numbers out of range, a mixture that makes no
/// sense). Bytes of the text that cannot be printed are not in the messages.
Result<PolicyFile> parse_policy_file(std::string_view text, const std::string& origin);

}  // namespace larder
