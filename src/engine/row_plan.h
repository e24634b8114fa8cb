// Which rows of a sequence stay under one policy, and what follows for its block tables.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/eviction_options.h"
#include "kv/sequence_cache.h"
#include "larder/options.h"
#include "larder/result.h"
#include "model/config.h"

namespace larder {

struct KvPlan;

struct RowPlan {
  std::optional<EvictionOptions> eviction;  // a budget in bytes has become one in tokens
  CacheShape shape;
  std::uint32_t max_rows = 0;  // of a sequence: the context, and what is read again behind it
};

/// Every row stays.
RowPlan plan_all_rows(const EngineOptions& options, const KvPlan& plan);

/// Of a policy that drops rows. `plan` has formats, layouts and the shape of a full cache.
/// Errors: invalid_argument (a budget in bytes that is too small, weights of other heads),
/// unsupported, with the reason, when rows of these formats or layers cannot be dropped so.
Result<RowPlan> plan_rows(const ModelConfig& config, const EngineOptions& options,
                          const KvPlan& plan, EvictionOptions eviction);

/// Bytes of a sequence of up to `n_tokens` tokens at its fullest, in slabs of the plan's pool.
std::uint64_t bytes_of_sequence(const EngineOptions& options, const KvPlan& plan,
                                const RowPlan& rows, std::uint32_t n_tokens,
                                std::uint32_t n_sequences = 1);

}  // namespace larder
