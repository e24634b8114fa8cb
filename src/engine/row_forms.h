// Which rows of a request are computed as a prompt's are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "engine/reading_plan.h"
#include "larder/engine.h"
#include "model/latent_forms.h"

namespace larder {

/// The first rows of `n_prompt` that take the form of a prompt's: the plain one of latent attention
/// (model/latent_forms.h); or, under a reading, that of the first rows in kernels/block_choice.h.
/// The request alone decides, so that results depend neither on chunks nor on what was cached.
inline std::uint32_t plain_rows(const ModelConfig& config,
                                const std::optional<ReadingPlan>& reading,
                                std::size_t n_prompt) noexcept {
  const auto n = static_cast<std::uint32_t>(n_prompt);
  return reading ? n / reading->form_rows * reading->form_rows : plain_prefix(config, n);
}

inline std::uint32_t plain_rows(const ModelConfig& config,
                                const std::optional<ReadingPlan>& reading,
                                const Request& request) noexcept {
  const std::size_t n_prompt = request.prompt.size();
  return plain_rows(config, reading,
                    reading ? std::min<std::size_t>(n_prompt, request.n_read_in_full) : n_prompt);
}

}  // namespace larder
