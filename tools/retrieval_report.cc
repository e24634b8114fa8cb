#include "retrieval_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "svg_text.h"
#include "table.h"
#include "wilson.h"

namespace larder {
namespace {

constexpr double kField = 64, kRow = 34, kLeft = 72, kTop = 64, kBottom = 28, kRight = 16;

double share(const RetrievalCell& cell) {
  return cell.n_samples == 0 ? 0 : static_cast<double>(cell.n_right) / cell.n_samples;
}

std::string depth_text(const RetrievalCell& cell) {
  return cell.depth ? fmt::format("{:.0f} %", 100 * *cell.depth) : "any";
}

/// Red, yellow, green.
std::string colour(double x) {
  const double red = x < 0.5 ? 1 : 2 - 2 * x, green = x < 0.5 ? 2 * x : 1;
  return fmt::format("#{:02x}{:02x}{:02x}", static_cast<int>(70 + 160 * red),
                     static_cast<int>(60 + 130 * green), 80);
}

std::set<std::uint32_t> lengths_of(std::span<const RetrievalCell> cells) {
  std::set<std::uint32_t> lengths;
  for (const RetrievalCell& cell : cells) lengths.insert(cell.n_tokens);
  return lengths;
}

}  // namespace

RetrievalCell total_of(std::span<const RetrievalCell> cells) {
  RetrievalCell total;
  for (const RetrievalCell& cell : cells) {
    total.task = cell.task;
    total.n_tokens = std::max(total.n_tokens, cell.n_tokens);
    total.n_samples += cell.n_samples;
    total.n_right += cell.n_right;
    total.recall += cell.recall * cell.n_samples;
    total.n_rows += cell.n_rows;
    total.n_kept += cell.n_kept;
  }
  total.recall /= std::max(1U, total.n_samples);
  return total;
}

std::string share_text(const RetrievalCell& cell) {
  const Interval interval = wilson_interval(cell.n_right, cell.n_samples);
  return fmt::format("{:.0f} % [{:.0f}..{:.0f}]", 100 * share(cell), 100 * interval.low,
                     100 * interval.high);
}

std::string depth_table(std::span<const RetrievalCell> cells) {
  Table table;
  table.header = {"tokens"};
  for (const std::uint32_t length : lengths_of(cells)) {
    std::vector<RetrievalCell> row;
    std::vector<std::string> texts = {fmt::format("{}", length)};
    std::vector<std::string> header = {"tokens"};
    for (const RetrievalCell& cell : cells) {
      if (cell.n_tokens != length) continue;
      row.push_back(cell);
      texts.push_back(fmt::format("{:.0f} %", 100 * share(cell)));
      header.push_back("depth " + depth_text(cell));
    }
    texts.push_back(share_text(total_of(row)));
    header.emplace_back("all [95 %]");
    table.header = std::move(header);
    table.rows.push_back(std::move(texts));
  }
  return plain_table(table);
}

std::string task_table(std::span<const RetrievalCell> cells) {
  Table table;
  table.header = {"task"};
  const std::set<std::uint32_t> lengths = lengths_of(cells);
  for (const std::uint32_t length : lengths) {
    table.header.push_back(fmt::format("{} tokens", length));
  }
  std::map<TaskKind, std::vector<std::string>> rows;
  for (const RetrievalCell& cell : cells) {
    std::vector<std::string>& row = rows[cell.task];
    if (row.empty()) row.emplace_back(task_name(cell.task));
    std::string text = share_text(cell);
    if (std::abs(cell.recall - share(cell)) > 1e-9) {
      text += fmt::format(" / {:.0f} %", 100 * cell.recall);
    }
    row.push_back(std::move(text));
  }
  for (auto& entry : rows) table.rows.push_back(std::move(entry.second));
  return plain_table(table);
}

nlohmann::ordered_json cells_json(std::span<const RetrievalCell> cells) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const RetrievalCell& cell : cells) {
    const Interval interval = wilson_interval(cell.n_right, cell.n_samples);
    nlohmann::ordered_json one = {{"task", task_name(cell.task)}, {"tokens", cell.n_tokens}};
    one["depth"] = cell.depth ? nlohmann::ordered_json(*cell.depth) : nlohmann::ordered_json();
    one["samples"] = cell.n_samples;
    one["right"] = cell.n_right;
    one["accuracy"] = share(cell);
    one["accuracy_low"] = interval.low;
    one["accuracy_high"] = interval.high;
    one["recall"] = cell.recall;
    one["context_rows"] = cell.n_rows;
    one["context_rows_from_cache"] = cell.n_kept;
    list.push_back(std::move(one));
  }
  return list;
}

std::string heat_map(std::span<const RetrievalCell> cells, const std::string& title) {
  std::map<std::uint32_t, std::size_t> columns;
  std::map<double, std::size_t> rows;
  for (const RetrievalCell& cell : cells) {
    columns.emplace(cell.n_tokens, 0);
    rows.emplace(cell.depth.value_or(0), 0);
  }
  std::size_t n = 0;
  std::string svg;
  const auto text = [&svg](double x, double y, const char* anchor, const std::string& words) {
    svg += fmt::format("<text x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"{}\">{}</text>\n", x, y,
                       anchor, xml_text(words));
  };
  text(8, 20, "start", title);
  for (auto& column : columns) {
    column.second = n++;
    text(kLeft + (static_cast<double>(column.second) + 0.5) * kField, kTop - 8, "middle",
         fmt::format("{}", column.first));
  }
  text(kLeft - 8, kTop - 8, "end", "tokens");
  n = 0;
  for (auto& row : rows) {
    row.second = n++;
    text(kLeft - 8, kTop + (static_cast<double>(row.second) + 0.6) * kRow, "end",
         fmt::format("{:.0f} %", 100 * row.first));
  }
  const double width =
      std::max(460.0, kLeft + kField * static_cast<double>(columns.size()) + kRight);
  const double height = kTop + kRow * static_cast<double>(rows.size()) + kBottom;
  text(8, height - 10, "start", "depth: the share of the text that stands before what is asked");
  for (const RetrievalCell& cell : cells) {
    const double x = kLeft + kField * static_cast<double>(columns[cell.n_tokens]);
    const double y = kTop + kRow * static_cast<double>(rows[cell.depth.value_or(0)]);
    svg += fmt::format(
        "<rect x=\"{:.0f}\" y=\"{:.0f}\" width=\"{}\" height=\"{}\" fill=\"{}\"><title>{} tokens, "
        "depth {}: {} of {}</title></rect><text class=\"in\" x=\"{:.0f}\" y=\"{:.0f}\" "
        "text-anchor=\"middle\">{:.0f}</text>\n",
        x + 1, y + 1, kField - 2, kRow - 2, colour(share(cell)), cell.n_tokens, depth_text(cell),
        cell.n_right, cell.n_samples, x + kField / 2, y + kRow * 0.6, 100 * share(cell));
  }
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
             "width=\"{0:.0f}\" role=\"img\">\n"
             "<style>text{{font:13px system-ui,sans-serif;fill:#24292f}}text.in{{fill:#fff}}"
             "@media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}}}</style>\n",
             width, height) +
         svg + "</svg>\n";
}

}  // namespace larder
