// What `larder eval passkey`, `needle` and `ruler` print and draw.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "retrieval_runner.h"

namespace larder {

/// All cells as one: samples added up.
RetrievalCell total_of(std::span<const RetrievalCell> cells);

/// "85 % [64..95]": share of right samples with its interval of 95 %.
std::string share_text(const RetrievalCell& cell);

/// One line per length, one column per depth, and all depths together.
std::string depth_table(std::span<const RetrievalCell> cells);
/// One line per task, one column per length; shares of single answers behind a slash.
std::string task_table(std::span<const RetrievalCell> cells);

/// A list with one object per cell.
nlohmann::ordered_json cells_json(std::span<const RetrievalCell> cells);

/// An SVG: lengths across, depths down, a field's colour and number the share of right samples.
std::string heat_map(std::span<const RetrievalCell> cells, const std::string& title);

}  // namespace larder
