#include "table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

namespace larder {
namespace {

std::vector<std::size_t> column_widths(const Table& table) {
  std::vector<std::size_t> widths;
  const auto absorb = [&](const std::vector<std::string>& row) {
    widths.resize(std::max(widths.size(), row.size()), 3);
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  };
  absorb(table.header);
  for (const auto& row : table.rows) absorb(row);
  return widths;
}

std::string row_text(const std::vector<std::string>& row, const std::vector<std::size_t>& widths,
                     std::string_view between) {
  std::string line;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (i > 0) line += between;
    line += i == 0 ? fmt::format("{:<{}}", row[i], widths[i])
                   : fmt::format("{:>{}}", row[i], widths[i]);
  }
  return line;
}

}  // namespace

std::string plain_table(const Table& table) {
  const auto widths = column_widths(table);
  std::string text;
  const auto add_row = [&](const std::vector<std::string>& row) {
    const std::string line = row_text(row, widths, "  ");
    text.append(line, 0, line.find_last_not_of(' ') + 1).append("\n");
  };
  if (!table.header.empty()) add_row(table.header);
  for (const auto& row : table.rows) add_row(row);
  return text;
}

std::string markdown_table(const Table& table) {
  const auto widths = column_widths(table);
  std::string text;
  const auto add_row = [&](const std::vector<std::string>& row) {
    text += fmt::format("| {} |\n", row_text(row, widths, " | "));
  };
  add_row(table.header);
  for (std::size_t i = 0; i < widths.size(); ++i) {
    text += fmt::format("| {:-<{}}{} ", "", widths[i] - 1, i == 0 ? '-' : ':');
  }
  text += "|\n";
  for (const auto& row : table.rows) add_row(row);
  return text;
}

std::string fact_list(const std::vector<std::pair<std::string, std::string>>& facts) {
  std::size_t width = 0;
  for (const auto& fact : facts) width = std::max(width, fact.first.size());
  std::string text;
  for (const auto& [name, value] : facts) text += fmt::format("{:<{}}  {}\n", name, width, value);
  return text;
}

}  // namespace larder
