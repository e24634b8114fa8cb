// From a model and the options to the shape and the byte budget of its KV cache.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/calibrated_keys.h"
#include "engine/eviction_options.h"
#include "engine/kv_formats.h"
#include "engine/reading_plan.h"
#include "engine/row_plan.h"
#include "kernels/attention.h"
#include "kv/block_pool.h"
#include "kv/sequence_cache.h"
#include "larder/options.h"
#include "larder/result.h"
#include "model/config.h"

namespace larder {

struct KvPlan {
  CacheShape shape;  // of a sequence whose rows all stay
  BlockPoolOptions pool;
  std::vector<BlockClass> single_classes;  // see single_class
  std::vector<KvFormats> formats;          // [n_layers]
  std::vector<KvLayout> layouts;       // [n_layers], without the addresses; of a layer that reads
                                       // another's rows, the other's
  RowPlan rows;                        // under the engine's own policy
  std::optional<ReadingPlan> reading;  // of a policy that drops none
  /// What layouts of kvq formats refer to; null without. Owners: this and its copies, whose layouts
  /// refer to the same.
  std::shared_ptr<const CalibratedKeys> keys;
  std::uint64_t bytes_per_sequence = 0;  // a sequence of n_context tokens at its fullest
  std::uint64_t bytes_per_token = 0;     // of a full block, all layers and heads
  /// Of blocks of the same size, outside extents. REQUIRES: a class of `shape`
  BlockClass single_class(BlockClass of) const {
    return single_classes[static_cast<std::size_t>(of)];
  }
};

/// `eviction` is what options.kv says of a policy.
/// REQUIRES: options validated, n_context, n_sequences and n_batch resolved (not 0).
/// Errors: invalid_argument, with the arithmetic shown, when `kv.memory_bytes` cannot hold one
/// sequence of the context, or when the budget exceeds `ram_bytes` (what is left of the machine's
/// memory beside the weights); unknown formats and policies; unsupported, with the reason, when a
/// format cannot store the model's rows, or a policy cannot drop them.
Result<KvPlan> plan_kv(const ModelConfig& config, const EngineOptions& options,
                       const std::optional<EvictionOptions>& eviction, std::uint64_t ram_bytes);

/// "512 MiB", "1.25 GiB", "900 B".
std::string format_bytes(std::uint64_t bytes);

}  // namespace larder
