#include "sweep_report.h"

#include <fmt/format.h>

#include <optional>
#include <set>
#include <utility>

#include "retrieval_report.h"
#include "table.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

double number(const Json& result, const char* name) { return result.value(name, 0.0); }

RetrievalCell passkeys(const Json& result) {
  RetrievalCell cell;
  cell.n_samples = result.value("samples", 0U);
  cell.n_right = std::min(cell.n_samples, result.value("right", 0U));
  return cell;
}

/// Sizes that any row was measured at.
std::set<std::uint32_t> sizes(const std::vector<SweepRow>& rows,
                              std::map<std::uint32_t, Json> SweepRow::*measure) {
  std::set<std::uint32_t> all;
  for (const SweepRow& row : rows) {
    for (const auto& entry : row.*measure) all.insert(entry.first);
  }
  return all;
}

/// Columns that a measure fills at each of its sizes.
struct Columns {
  std::map<std::uint32_t, Json> SweepRow::*measure;
  std::vector<std::string> names;  // with {} for the size
  std::vector<std::string> (*texts)(const Json& result);
};

const Columns kColumns[] = {
    {&SweepRow::kl,
     {"KL@{}", "99 %@{}", "same top@{}", "perplexity@{}"},
     [](const Json& r) -> std::vector<std::string> {
       return {fmt::format("{:.5f}", number(r, "kl_mean")),
               fmt::format("{:.4f}", number(r, "kl_p99")),
               fmt::format("{:.1f} %", 100 * number(r, "top1_agreement")),
               fmt::format("{:.3f}", number(r, "perplexity"))};
     }},
    {&SweepRow::passkey,
     {"pass key@{}"},
     [](const Json& r) -> std::vector<std::string> { return {share_text(passkeys(r))}; }},
    {&SweepRow::speed,
     {"prefill@{}", "decode@{}"},
     [](const Json& r) -> std::vector<std::string> {
       return {fmt::format("{:.0f}", number(r, "prefill")),
               fmt::format("{:.1f}", number(r, "decode"))};
     }},
};

std::vector<std::string> memory_columns(const SweepRow& row) {
  if (row.kl.empty()) return {"", "", ""};
  const Json& r = row.kl.rbegin()->second;
  const double bytes = number(r, "cached_bytes_per_token");
  const double reference = number(r, "reference_cached_bytes_per_token");
  return {fmt::format("{:.2f}", number(r, "bits_per_element")), fmt::format("{:.0f}", bytes),
          bytes > 0 ? fmt::format("{:.2f}x", reference / bytes) : std::string()};
}

Json by_size(const std::map<std::uint32_t, Json>& results) {
  Json json = Json::object();
  for (const auto& [size, result] : results) json[fmt::format("{}", size)] = result;
  return json;
}

std::optional<double> mean_recall(const SweepRow& row, Asked asked) {
  double recall = 0, n = 0;
  for (const auto& task : row.tasks) {
    if (!task.first.ends_with(asked_name(asked))) continue;
    for (const auto& cell : task.second) {
      recall += number(cell.second, "recall");
      ++n;
    }
  }
  return n > 0 ? std::optional(recall / n) : std::nullopt;
}

}  // namespace

std::string sweep_table(const std::vector<SweepRow>& rows) {
  Table table;
  table.header = {"configuration", "bits", "bytes/token", "smaller"};
  std::vector<std::set<std::uint32_t>> all;
  for (const Columns& columns : kColumns) {
    all.push_back(sizes(rows, columns.measure));
    for (const std::uint32_t size : all.back()) {
      for (const std::string& name : columns.names) {
        table.header.push_back(fmt::format(fmt::runtime(name), size));
      }
    }
  }
  for (const SweepRow& row : rows) {
    if (!row.refusal.empty()) continue;
    std::vector<std::string> texts = {row.name};
    for (std::string& text : memory_columns(row)) texts.push_back(std::move(text));
    for (std::size_t i = 0; i < all.size(); ++i) {
      const Columns& columns = kColumns[i];
      for (const std::uint32_t size : all[i]) {
        const auto found = (row.*columns.measure).find(size);
        const auto cells = found == (row.*columns.measure).end()
                               ? std::vector<std::string>(columns.names.size())
                               : columns.texts(found->second);
        texts.insert(texts.end(), cells.begin(), cells.end());
      }
    }
    table.rows.push_back(std::move(texts));
  }
  return markdown_table(table);
}

std::string sweep_task_table(const std::vector<SweepRow>& rows) {
  std::set<std::pair<std::string, std::uint32_t>> all;
  for (const SweepRow& row : rows) {
    for (const auto& [task, by_length] : row.tasks) {
      for (const auto& cell : by_length) all.emplace(task, cell.first);
    }
  }
  if (all.empty()) return {};
  Table table;
  table.header = {"configuration"};
  for (const auto& column : all) {
    table.header.push_back(fmt::format("{}@{}", column.first, column.second));
  }
  for (const SweepRow& row : rows) {
    if (!row.refusal.empty()) continue;
    std::vector<std::string> texts = {row.name};
    for (const auto& column : all) {
      const auto task = row.tasks.find(column.first);
      const bool is_there = task != row.tasks.end() && task->second.contains(column.second);
      texts.push_back(
          is_there ? fmt::format("{:.0f} %", 100 * number(task->second.at(column.second), "recall"))
                   : "");
    }
    table.rows.push_back(std::move(texts));
  }
  return markdown_table(table);
}

std::vector<TaskBars> task_bars(const std::vector<SweepRow>& rows) {
  std::vector<TaskBars> all;
  for (const SweepRow& row : rows) {
    TaskBars bars{row.name, mean_recall(row, Asked::behind_cache),
                  mean_recall(row, Asked::within_prompt)};
    if (bars.hidden || bars.visible) all.push_back(std::move(bars));
  }
  return all;
}

Json sweep_json(const std::vector<SweepRow>& rows) {
  Json list = Json::array();
  for (const SweepRow& row : rows) {
    Json one = {{"name", row.name}, {"flags", row.flags}};
    if (!row.refusal.empty()) one["refusal"] = row.refusal;
    if (!row.kl.empty()) {
      const Json& r = row.kl.rbegin()->second;
      one["bits_per_element"] = number(r, "bits_per_element");
      one["bytes_per_token"] = number(r, "cached_bytes_per_token");
    }
    one["kl"] = by_size(row.kl);
    one["passkey"] = by_size(row.passkey);
    for (const auto& task : row.tasks) one["tasks"][task.first] = by_size(task.second);
    one["speed"] = by_size(row.speed);
    list.push_back(std::move(one));
  }
  return list;
}

std::vector<ParetoPoint> pareto_points(const std::vector<SweepRow>& rows) {
  std::vector<ParetoPoint> points;
  for (const SweepRow& row : rows) {
    if (row.kl.empty()) continue;
    const Json& r = row.kl.rbegin()->second;
    ParetoPoint point{row.name, number(r, "cached_bytes_per_token"), number(r, "kl_mean"), 0};
    if (!row.speed.empty()) point.speed = number(row.speed.rbegin()->second, "decode");
    points.push_back(std::move(point));
  }
  return points;
}

}  // namespace larder
