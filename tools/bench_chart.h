// Tokens per second against depth, as a picture.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"

namespace larder {

/// One measured point of any engine.
struct ChartPoint {
  std::string series;  // "Larder, bf16"; "llama.cpp, f16"
  std::string panel;   // "prefill 512", "decode"
  std::uint32_t depth = 0;
  double rate = 0;  // tokens per second
};

/// Points of a JSON list as `larder bench -o json` and scripts/bench_llama_cpp.py write it; entries
/// name their `engine`, ours does not and becomes "Larder". Errors: invalid_argument with the file
/// for unreadable files, wrong JSON, missing fields.
Result<std::vector<ChartPoint>> chart_points(std::string_view json_text, std::string_view origin);

/// The most tokens per second that memory allows a decoding sequence: bandwidth over the bytes of
/// all weights and of the cached rows.
struct BandwidthLimit {
  double bytes_per_second = 0;  // 0: not known, not drawn
  double weights_bytes = 0;
  double kv_bytes_per_token = 0;
};

/// An SVG with one panel per kind of measurement, legible on light and on dark pages.
std::string bench_chart(std::span<const ChartPoint> points, const BandwidthLimit& limit);

}  // namespace larder
