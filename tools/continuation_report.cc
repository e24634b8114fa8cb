#include "continuation_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/fail.h"
#include "cached_context.h"
#include "flag_values.h"
#include "progress.h"
#include "table.h"
#include "terminal.h"

namespace larder {
namespace {

constexpr std::uint32_t kMaxContext = 1U << 24;

/// A bar over several measurements of equal weight.
class PartProgress {
 public:
  PartProgress(const char* label, std::size_t n_parts) : bar_(label), n_parts_(n_parts) {}
  void update(std::size_t part, double fraction, const std::string& note) {
    bar_.update((static_cast<double>(part) + fraction) / static_cast<double>(n_parts_), note);
  }

 private:
  ProgressBar bar_;
  std::size_t n_parts_;
};

ContinuationOptions options_of(const ContextFlags& flags, std::size_t i) {
  ContinuationOptions options = flags.each;
  options.n_context = flags.contexts[i];
  return options;
}

}  // namespace

std::uint64_t ContextFlags::longest() const {
  return std::uint64_t{*std::max_element(contexts.begin(), contexts.end())} + each.n_continuation;
}

void add_context_flags(CLI::App& app, ContextFlags& flags) {
  add_counts(app, "--contexts", flags.contexts,
             "lengths of a context that is cached first; what follows is scored from the cache");
  add_number(app, "--continuation", flags.each.n_continuation,
             "with --contexts: tokens that are scored behind each");
  add_number(app, "--windows", flags.each.n_windows,
             "with --contexts: places of the text, at most");
}

Result<std::uint32_t> context_for(const EngineOptions& options, const ContextFlags& flags) {
  const std::uint64_t n_needed = flags.longest();
  if (n_needed > kMaxContext) {
    return fail(Errc::invalid_argument, "--contexts and --continuation make {} tokens, at most {}",
                n_needed, kMaxContext);
  }
  if (options.n_context == 0) {
    return context_with_room(options, static_cast<std::uint32_t>(n_needed));
  }
  if (n_needed <= options.n_context) return options.n_context;
  return fail(Errc::invalid_argument,
              "--contexts and --continuation need {} tokens, ctx-size is {}", n_needed,
              options.n_context);
}

Result<std::vector<DivergenceReport>> run_divergence_at(const DivergenceFlags& flags,
                                                        const ContextFlags& contexts) {
  DivergenceFlags all = flags;
  LARDER_ASSIGN(all.model.n_context, context_for(flags.model, contexts));
  LARDER_ASSIGN(const DivergenceEngines engines, open_divergence(all));
  PartProgress bar("divergence", contexts.contexts.size());
  const InterruptGuard guard;
  std::vector<DivergenceReport> reports;
  for (std::size_t i = 0; i < contexts.contexts.size(); ++i) {
    const auto progress = [&](double fraction, double mean) {
      bar.update(i, fraction, fmt::format("KL {:.5f}", mean));
    };
    ContinuationOptions options = options_of(contexts, i);
    options.max_tokens = flags.max_tokens;
    DivergenceReport report = divergence_report(all, engines);
    LARDER_ASSIGN(report.result, measure_divergence(*engines.model, *engines.reference,
                                                    engines.text, options, progress));
    report.n_context = options.n_context;
    reports.push_back(std::move(report));
  }
  return reports;
}

std::string divergence_table(const std::vector<DivergenceReport>& reports) {
  Table table;
  table.header = {"context",  "KL mean",    "median",      "99 %",   "max",
                  "same top", "perplexity", "reference's", "scored", "bytes/token"};
  for (const DivergenceReport& report : reports) {
    const DivergenceResult& r = report.result;
    table.rows.push_back(
        {fmt::format("{}", report.n_context), fmt::format("{:.6f}", r.mean),
         fmt::format("{:.6f}", r.median), fmt::format("{:.5f}", r.p99),
         fmt::format("{:.4f}", r.max), fmt::format("{:.2f} %", 100 * r.top1_agreement),
         fmt::format("{:.4f}", r.perplexity), fmt::format("{:.4f}", r.reference_perplexity),
         fmt::format("{} in {}", r.n_scored_tokens, r.n_windows),
         fmt::format("{:.0f} of {:.0f}", r.model_bytes_per_token, r.reference_bytes_per_token)});
  }
  return plain_table(table) + "\n" +
         fact_list({{"engine model", reports.front().model_engine},
                    {"engine reference", reports.front().reference_engine}});
}

nlohmann::ordered_json divergence_list(const std::vector<DivergenceReport>& reports) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const DivergenceReport& report : reports) {
    nlohmann::ordered_json one = divergence_json(report);
    one.erase("stride");
    one["cached_bytes_per_token"] = report.result.model_bytes_per_token;
    one["reference_cached_bytes_per_token"] = report.result.reference_bytes_per_token;
    list.push_back(std::move(one));
  }
  return list;
}

Result<std::vector<PerplexityResult>> measure_perplexity_at(Engine& engine, std::string_view text,
                                                            const ContextFlags& flags) {
  PartProgress bar("perplexity", flags.contexts.size());
  const InterruptGuard guard;
  std::vector<PerplexityResult> results;
  for (std::size_t i = 0; i < flags.contexts.size(); ++i) {
    const auto progress = [&](double fraction, double perplexity) {
      bar.update(i, fraction, fmt::format("ppl {:.3f}", perplexity));
    };
    LARDER_ASSIGN(auto result, measure_perplexity(engine, text, options_of(flags, i), progress));
    results.push_back(std::move(result));
  }
  return results;
}

std::string perplexity_table(const std::vector<PerplexityResult>& results,
                             const ContextFlags& flags) {
  Table table;
  table.header = {"context", "perplexity", "+-", "bits/token", "bits/byte", "scored"};
  for (std::size_t i = 0; i < results.size(); ++i) {
    const PerplexityResult& r = results[i];
    table.rows.push_back(
        {fmt::format("{}", flags.contexts[i]), fmt::format("{:.4f}", r.perplexity()),
         fmt::format("{:.4f}", r.perplexity_error()), fmt::format("{:.5f}", r.bits_per_token()),
         fmt::format("{:.5f}", r.bits_per_byte()),
         fmt::format("{} in {}", r.n_scored_tokens, r.n_windows)});
  }
  return plain_table(table);
}

nlohmann::ordered_json perplexity_list(const std::vector<PerplexityResult>& results,
                                       const ContextFlags& flags) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < results.size(); ++i) {
    const PerplexityResult& r = results[i];
    list.push_back({{"context", flags.contexts[i]},
                    {"perplexity", r.perplexity()},
                    {"perplexity_error", r.perplexity_error()},
                    {"bits_per_token", r.bits_per_token()},
                    {"bits_per_byte", r.bits_per_byte()},
                    {"scored_tokens", r.n_scored_tokens},
                    {"scored_bytes", r.n_scored_bytes},
                    {"windows", r.n_windows},
                    {"continuation", flags.each.n_continuation},
                    {"seconds", r.seconds}});
  }
  return list;
}

}  // namespace larder
