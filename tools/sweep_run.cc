#include "sweep_run.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>

#include "base/fail.h"
#include "progress.h"
#include "terminal.h"

namespace larder {
namespace {

std::vector<SweepRow> empty_rows(const SweepPlan& plan) {
  std::vector<SweepRow> rows;
  for (const SweepConfig& config : plan.configs) {
    SweepRow row;
    row.name = config.name;
    row.flags = config.flags;
    rows.push_back(std::move(row));
  }
  return rows;
}

/// Work that is left, in the units of SweepCell::cost. Says on standard error what is not.
double cost_of_missing(const std::vector<SweepCell>& cells, const SweepStore& store) {
  double cost = 0;
  std::size_t n_found = 0;
  for (const SweepCell& cell : cells) {
    if (store.find(cell.key) != nullptr) {
      ++n_found;
    } else {
      cost += cell.cost;
    }
  }
  if (n_found > 0) {
    std::fprintf(stderr, "%zu of %zu cells were measured before\n", n_found, cells.size());
  }
  return cost;
}

auto& measured_of(SweepRow& row, const SweepCell& cell) {
  switch (cell.measure) {
    case SweepMeasure::kl:
      return row.kl;
    case SweepMeasure::passkey:
      return row.passkey;
    case SweepMeasure::task:
      return row.tasks[task_text(cell.task, cell.asked)];
    case SweepMeasure::speed:
      break;
  }
  return row.speed;
}

}  // namespace

Result<std::vector<SweepRow>> run_sweep(const SweepPlan& plan, SweepStore& store) {
  LARDER_ASSIGN(const std::vector<SweepCell> cells, sweep_cells(plan));
  const double cost_left = cost_of_missing(cells, store);
  double cost_done = 0;
  std::vector<SweepRow> rows = empty_rows(plan);
  SweepRunner runner(plan);
  ProgressBar bar("sweep");
  const InterruptGuard guard;
  for (const SweepCell& cell : cells) {
    SweepRow& row = rows[cell.config];
    const bool is_missing = store.find(cell.key) == nullptr;
    if (is_missing && row.refusal.empty()) {
      auto result = runner.run(cell, [&](double fraction) {
        bar.update((cost_done + fraction * cell.cost) / cost_left, row.name);
      });
      if (result) {
        LARDER_TRY(store.add(cell.key, std::move(*result)));
      } else if (result.error().code == Errc::unsupported) {
        row.refusal = result.error().message;
      } else {
        return fail(result.error().code, "{}: {}", row.name, result.error().message);
      }
    }
    if (is_missing) cost_done += cell.cost;
    const auto* found = store.find(cell.key);
    if (found != nullptr) measured_of(row, cell)[cell.size] = *found;
  }
  const auto is_refused = [](const SweepRow& row) { return !row.refusal.empty(); };
  if (!rows.empty() && std::all_of(rows.begin(), rows.end(), is_refused)) {
    return fail(Errc::unsupported, "{}: {}", rows.front().name, rows.front().refusal);
  }
  return rows;
}

}  // namespace larder
