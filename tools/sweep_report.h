// A sweep's results side by side.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pareto_chart.h"
#include "sweep.h"
#include "task_chart.h"

namespace larder {

/// What one configuration achieved; cells that were not measured are absent.
struct SweepRow {
  std::string name, flags;
  std::string refusal;  // why it cannot run; empty: it can
  std::map<std::uint32_t, nlohmann::ordered_json> kl, passkey, speed;  // by context, length, depth
  std::map<std::string, std::map<std::uint32_t, nlohmann::ordered_json>> tasks;  // by task_text
};

/// Columns: bits per element, bytes per token in the cache at the longest context, how often
/// smaller than the reference's; then KL and agreement, pass keys, speeds. Without rows that were
/// refused.
std::string sweep_table(const std::vector<SweepRow>& rows);

/// Shares of right samples, a column for each task and length; of tasks with several answers the
/// share of these. Empty without tasks.
std::string sweep_task_table(const std::vector<SweepRow>& rows);

/// Means over all tasks and lengths that a row was measured at. Rows without are left out.
std::vector<TaskBars> task_bars(const std::vector<SweepRow>& rows);

nlohmann::ordered_json sweep_json(const std::vector<SweepRow>& rows);

/// KL against bytes at the longest context; the size of a point is the speed of decoding at the
/// longest depth. Rows without KL are left out.
std::vector<ParetoPoint> pareto_points(const std::vector<SweepRow>& rows);

}  // namespace larder
