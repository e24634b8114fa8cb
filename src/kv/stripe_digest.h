// The names of stripes: the same for the same tokens behind the same tokens.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/block_id.h"

namespace larder {

/// SHA-256 over the model's fingerprint, the salt, and all tokens and forms up to the stripe's end.
using StripeDigest = std::array<std::uint8_t, 32>;

/// What stands before the first stripe of a text with this salt.
StripeDigest root_digest(const StripeDigest& fingerprint, std::string_view salt);
/// Of a stripe, or of its beginning, behind `parent`; its first `n_plain` rows are plain.
StripeDigest stripe_digest(const StripeDigest& parent, std::span<const TokenId> tokens,
                           std::uint32_t n_plain);

}  // namespace larder
