// Measures one case of `larder bench`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bench_cases.h"
#include "larder/engine.h"

namespace larder {

struct BenchResult {
  BenchCase measured;
  std::string model, description;  // of the engine that ran
  std::uint32_t n_threads = 0;     // resolved
  std::uint64_t kv_peak_bytes = 0, kv_bytes_per_token = 0;
  std::vector<double> seconds;  // [repetitions], in the order they ran

  /// Tokens per second of all sequences together, one entry per repetition, sorted.
  std::vector<double> sorted_rates() const;
  double median_rate() const;
};

/// Called after each repetition with the number done.
using BenchProgress = std::function<void(std::uint32_t n_done)>;

/// Fills the depth once (untimed), warms up once, measures `n_repetitions` times; each continues
/// from the kept cache of the filled depth. Errors: those of the engine; unavailable when a kept
/// cache was evicted or Ctrl-C was pressed.
Result<BenchResult> run_bench_case(Engine& engine, const BenchCase& one,
                                   std::uint32_t n_repetitions, const BenchProgress& progress);

}  // namespace larder
