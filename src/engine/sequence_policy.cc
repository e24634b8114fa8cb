#include "engine/sequence_policy.h"

namespace larder {

MetSinks met_sinks(const Policy& policy) noexcept {
  if (policy.sink_distance == SinkDistance::in_text) return {};
  return {policy.sinks, policy.sink_distance == SinkDistance::capped};
}

SequencePolicy::SequencePolicy(RowPlan plan, std::string name, const Compute& compute,
                               std::vector<KvLayout> layouts, EvictorModel model)
    : rows(std::move(plan)),
      text(std::move(name)),
      sinks(met_sinks(rows.eviction->policy)),
      credit(credit_rule(rows.eviction->policy)) {
  evictor.emplace(*rows.eviction, rows.shape, compute, std::move(layouts), std::move(model));
}

}  // namespace larder
