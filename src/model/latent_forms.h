// Which form of latent attention a row is computed in. See docs/decisions/0008.
#pragma once

#include <cstdint>

#include "model/config.h"

namespace larder {

/// Prompts are cut into panels of so many positions; whole panels may take the plain form.
inline constexpr std::uint32_t kFormPanel = 256;

/// Rows [0, plain_prefix) of a request with a prompt of `n_prompt` tokens are computed in the plain
/// form, later ones in the absorbed form: a function of the request alone, so that results depend
/// neither on chunks nor on what was cached. 0 for models in which the plain form does not pay, and
/// for those without latent attention.
std::uint32_t plain_prefix(const ModelConfig& config, std::uint32_t n_prompt) noexcept;

}  // namespace larder
