// The results of `larder bench` as a table, JSON or CSV.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "bench_runner.h"

namespace larder {

enum class BenchFormat : std::uint8_t { table, json, csv };

/// "md", "json" or "csv". Errors: invalid_argument with the known names.
Result<BenchFormat> parse_bench_format(std::string_view name);

/// Rates are tokens per second; the middle of the repetitions, their least and most.
std::string bench_text(std::span<const BenchResult> results, BenchFormat format);

}  // namespace larder
