// What `larder eval sweep` compares: named sets of engine flags.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "larder/options.h"
#include "larder/result.h"

namespace larder {

struct SweepConfig {
  std::string name;
  std::string flags;      // as they were written
  EngineOptions options;  // the base with these flags
};

/// "NAME: --cache-type-k int8 -ctv int4": any flags of the engine but those of the model, the
/// context and the sequences, which are the sweep's. Errors: invalid_argument, naming the line.
Result<SweepConfig> parse_sweep_config(std::string_view line, const EngineOptions& base);

/// One configuration a line; empty lines and those that begin with # are skipped. Errors: as above;
/// names that occur twice.
Result<std::vector<SweepConfig>> parse_sweep_configs(const std::vector<std::string>& lines,
                                                     const EngineOptions& base);

/// Every option that may change a result, as "name=value" in the order of the fields; the model's
/// path, the context, the sequences and the budget are left out.
std::string result_options(const EngineOptions& options);

}  // namespace larder
