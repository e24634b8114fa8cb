// Runs the cells of a sweep that are missing.
#pragma once

#include <vector>

#include "sweep.h"
#include "sweep_report.h"

namespace larder {

/// Measures what the store does not hold, adds it there, and gives back one row per configuration.
/// A configuration that this model or machine does not support gets its row with the reason. Draws
/// a bar with the time that is left on a terminal. Errors: those of the measures, with the
/// configuration's name; unsupported when no configuration can run; unavailable (Ctrl-C): what is
/// finished stays in the store.
Result<std::vector<SweepRow>> run_sweep(const SweepPlan& plan, SweepStore& store);

}  // namespace larder
