// Which keys of a policy file mean anything.
#pragma once

#include <string_view>

#include "policy/policy.h"

namespace larder {

/// What would read the key, in a policy that does not: "score: attention". Empty where the policy
/// reads it, or where its value is the one that asks for nothing, as window: 0.
std::string_view missing_reader(const Policy& policy, std::string_view key) noexcept;

}  // namespace larder
