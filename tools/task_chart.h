// Answers that configurations give, as a picture.
#pragma once

#include <optional>
#include <span>
#include <string>

namespace larder {

/// Shares of answers that were given, 0..1: with the question hidden from what drops rows, and
/// visible to it. Empty: not measured.
struct TaskBars {
  std::string name;
  std::optional<double> hidden, visible;
};

/// An SVG: a line for each configuration with a bar for each of the two. Legible on light and on
/// dark pages.
std::string task_chart(std::span<const TaskBars> rows, const std::string& title);

}  // namespace larder
