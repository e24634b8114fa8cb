// Which policies go with which sealed formats.
#pragma once

#include <cstdint>

#include "engine/kv_plan.h"
#include "larder/options.h"
#include "larder/result.h"

namespace larder {

/// Whether rows of `layer`, which seals, can be dropped by rows.eviction; where they are taken out
/// of blocks one by one, the layer of rows.shape is marked so. Errors: unsupported.
/// REQUIRES: formats, layouts and shape of the plan
Result<void> check_sealed_drops(const KvPlan& plan, std::uint32_t layer, RowPlan& rows);

/// Whether queries can choose among blocks of the plan's formats. Errors: unsupported
Result<void> check_sealed_choice(const EngineOptions& options, const KvPlan& plan);

}  // namespace larder
