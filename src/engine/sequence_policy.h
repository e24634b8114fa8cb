// What the sequences that run under one policy have in common.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/evictor.h"
#include "engine/row_plan.h"
#include "kernels/column_sums.h"
#include "kernels/compute.h"
#include "kernels/kv_layout.h"
#include "policy/policy.h"

namespace larder {

/// Sinks that queries meet at another distance than that in the text.
struct MetSinks {
  std::uint32_t n = 0;    // SequenceRows::n_sinks
  bool has_caps = false;  // SequenceRows::sink_cap is the largest distance in a full cache
};
MetSinks met_sinks(const Policy& policy) noexcept;

/// Made for a policy on its first use. Caches of sequences refer to its shape, so it stays where it
/// is and outlives them: it is shared by requests, kept caches and the store (PolicyStore).
struct SequencePolicy {
  /// Every row stays, but for what is said in `name`, which people read.
  SequencePolicy(RowPlan plan, std::string name) : rows(std::move(plan)), text(std::move(name)) {}
  /// `layouts` with the pool's address. REQUIRES: plan.eviction
  SequencePolicy(RowPlan plan, std::string name, const Compute& compute,
                 std::vector<KvLayout> layouts, EvictorModel model);
  SequencePolicy(const SequencePolicy&) = delete;
  SequencePolicy& operator=(const SequencePolicy&) = delete;

  bool drops() const noexcept { return evictor.has_value(); }

  const RowPlan rows;
  const std::string text;  // "knorm, 512 rows kept", "none"
  MetSinks sinks;
  CreditRule credit;
  std::optional<Evictor> evictor;  // none: every row stays
};

}  // namespace larder
