// Which blocks queries read, where a policy lets them choose.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/eviction_options.h"
#include "kernels/block_choice.h"
#include "larder/options.h"
#include "larder/result.h"
#include "model/config.h"

namespace larder {

struct ReadingPlan {
  BlockRule rule;
  std::uint32_t n_full_layers = 0;  // the first ones, which read everything
  std::uint32_t form_rows = 1;      // rows that choose as a prompt's do come in so many
};

/// Nothing where queries read all rows. `eviction` is what `options` say of a policy. Errors:
/// invalid_argument (a budget in bytes, or of fewer blocks than are always read).
Result<std::optional<ReadingPlan>> reading_plan(const std::optional<EvictionOptions>& eviction,
                                                const KvOptions& options);

/// Errors: unsupported (latent attention, no layer whose queries would choose).
Result<void> check_reading(const ModelConfig& config, const ReadingPlan& reading,
                           const KvOptions& options);

/// Whether queries of some layer choose among the rows that `owner` stores.
bool needs_marks(const ModelConfig& config, const ReadingPlan& reading,
                 std::uint32_t owner) noexcept;

/// "quest, 1024 rows read", "quest, 0.1 of the rows read".
std::string reading_text(const EvictionOptions& eviction);

}  // namespace larder
