// Aligned columns of text for people.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace larder {

struct Table {
  std::vector<std::string> header;             // may be empty
  std::vector<std::vector<std::string>> rows;  // each as long as the widest row needs
};

/// Columns two spaces apart; the first is aligned left, the others right.
std::string plain_table(const Table& table);
/// GitHub's Markdown, padded so that it also reads well as it is.
std::string markdown_table(const Table& table);
/// "name   value" lines, both aligned left.
std::string fact_list(const std::vector<std::pair<std::string, std::string>>& facts);

}  // namespace larder
