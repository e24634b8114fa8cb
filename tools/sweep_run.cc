#include "sweep_run.h"

#include <cstdio>
#include <string>
#include <utility>

#include "base/fail.h"
#include "progress.h"
#include "terminal.h"

namespace larder {

Result<std::vector<SweepRow>> run_sweep(const SweepPlan& plan, SweepStore& store) {
  LARDER_ASSIGN(const std::vector<SweepCell> cells, sweep_cells(plan));
  double cost_left = 0, cost_done = 0;
  std::size_t n_missing = 0;
  for (const SweepCell& cell : cells) {
    if (store.find(cell.key) != nullptr) continue;
    cost_left += cell.cost;
    ++n_missing;
  }
  if (n_missing < cells.size()) {
    std::fprintf(stderr, "%zu of %zu cells were measured before\n", cells.size() - n_missing,
                 cells.size());
  }
  std::vector<SweepRow> rows;
  for (const SweepConfig& config : plan.configs) {
    SweepRow row;
    row.name = config.name;
    row.flags = config.flags;
    rows.push_back(std::move(row));
  }
  SweepRunner runner(plan);
  ProgressBar bar("sweep");
  const InterruptGuard guard;
  for (const SweepCell& cell : cells) {
    const std::string& name = plan.configs[cell.config].name;
    if (store.find(cell.key) == nullptr) {
      auto result = runner.run(cell, [&](double fraction) {
        bar.update((cost_done + fraction * cell.cost) / cost_left, name);
      });
      if (!result) return fail(result.error().code, "{}: {}", name, result.error().message);
      LARDER_TRY(store.add(cell.key, std::move(*result)));
      cost_done += cell.cost;
    }
    SweepRow& row = rows[cell.config];
    auto& measured = cell.measure == SweepMeasure::kl        ? row.kl
                     : cell.measure == SweepMeasure::passkey ? row.passkey
                                                             : row.speed;
    measured[cell.size] = *store.find(cell.key);
  }
  return rows;
}

}  // namespace larder
