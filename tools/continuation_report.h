// Perplexity and divergence at several lengths of context, each cached before it is used.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "continuation.h"
#include "divergence_report.h"
#include "perplexity.h"

namespace larder {

/// --contexts and what belongs to it.
struct ContextFlags {
  std::vector<std::uint32_t> contexts;  // empty: sliding windows instead
  ContinuationOptions each;             // of every context; its n_context is not used

  /// Tokens of the longest context and what follows it. REQUIRES: contexts is not empty.
  std::uint64_t longest() const;
};

/// Adds --contexts, --continuation and --windows.
void add_context_flags(CLI::App& app, ContextFlags& flags);

/// The context that an engine needs for the longest of them. Errors: invalid_argument when
/// --ctx-size is given and smaller.
Result<std::uint32_t> context_for(const EngineOptions& options, const ContextFlags& flags);

/// One report per context, in the order of the flags, over one pair of engines.
Result<std::vector<DivergenceReport>> run_divergence_at(const DivergenceFlags& flags,
                                                        const ContextFlags& contexts);
std::string divergence_table(const std::vector<DivergenceReport>& reports);
nlohmann::ordered_json divergence_list(const std::vector<DivergenceReport>& reports);

/// One result per context, in the order of the flags.
Result<std::vector<PerplexityResult>> measure_perplexity_at(Engine& engine, std::string_view text,
                                                            const ContextFlags& flags);
std::string perplexity_table(const std::vector<PerplexityResult>& results,
                             const ContextFlags& flags);
nlohmann::ordered_json perplexity_list(const std::vector<PerplexityResult>& results,
                                       const ContextFlags& flags);

}  // namespace larder
