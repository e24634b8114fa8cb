#include "divergence_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "base/fail.h"
#include "model/io/model_source.h"
#include "progress.h"
#include "table.h"
#include "terminal.h"
#include "text_input.h"

namespace larder {
namespace {

Result<std::unique_ptr<Engine>> open_bounded(EngineOptions options) {
  LARDER_ASSIGN(auto source, open_model(options.model_path));
  options.n_batch = logit_bounded_batch(options.n_batch, source->config().n_vocab);
  return Engine::open(std::move(source), options);
}

}  // namespace

Result<DivergenceEngines> open_divergence(const DivergenceFlags& flags) {
  DivergenceEngines engines;
  LARDER_ASSIGN(engines.text, read_text_file(flags.text_path, kMaxTextBytes));
  if (engines.text.empty()) {
    return fail(Errc::invalid_argument, "{}: the text is empty", flags.text_path);
  }
  EngineOptions options = flags.model;
  options.n_sequences = 1;
  LARDER_ASSIGN(engines.model, open_bounded(options));
  options = flags.reference;
  options.n_sequences = 1;
  options.n_context = engines.model->options().n_context;
  options.n_batch = flags.model.n_batch;
  LARDER_ASSIGN(engines.reference, open_bounded(options));
  return engines;
}

DivergenceReport divergence_report(const DivergenceFlags& flags, const DivergenceEngines& engines) {
  DivergenceReport report;
  report.model_path = flags.model.model_path;
  report.reference_path = flags.reference.model_path;
  report.text_path = flags.text_path;
  report.model_engine = engines.model->description();
  report.reference_engine = engines.reference->description();
  report.model_kv_bytes = engines.model->kv_bytes_per_token();
  report.reference_kv_bytes = engines.reference->kv_bytes_per_token();
  return report;
}

Result<DivergenceReport> run_divergence(const DivergenceFlags& flags) {
  LARDER_ASSIGN(const DivergenceEngines engines, open_divergence(flags));
  PerplexityOptions measure;
  measure.n_context = engines.model->options().n_context;
  measure.stride = flags.stride != 0 ? flags.stride : std::max(1U, measure.n_context / 2);
  measure.max_tokens = flags.max_tokens;
  ProgressBar bar("divergence");
  const InterruptGuard guard;
  DivergenceReport report = divergence_report(flags, engines);
  LARDER_ASSIGN(report.result, measure_divergence(*engines.model, *engines.reference, engines.text,
                                                  measure, [&bar](double fraction, double mean) {
                                                    bar.update(fraction,
                                                               fmt::format("KL {:.5f}", mean));
                                                  }));
  report.n_context = measure.n_context;
  report.stride = measure.stride;
  return report;
}

std::string divergence_text(const DivergenceReport& report, const std::string& reference_name,
                            const std::string& model_name) {
  const DivergenceResult& r = report.result;
  return fact_list({
      {"perplexity " + reference_name, fmt::format("{:.4f}", r.reference_perplexity)},
      {"perplexity " + model_name, fmt::format("{:.4f} ({:+.2f} %)", r.perplexity,
                                               100 * (r.perplexity / r.reference_perplexity - 1))},
      {"KL", fmt::format("mean {:.6f}, median {:.6f}, 99 % {:.5f}, max {:.4f} nats", r.mean,
                         r.median, r.p99, r.max)},
      {"same top token", fmt::format("{:.2f} %", 100 * r.top1_agreement)},
      {"RMS change of p", fmt::format("{:.3f} %", 100 * r.rms_probability_change)},
      {"KV bytes per token", fmt::format("{} {}, {} {}", report.reference_kv_bytes, reference_name,
                                         report.model_kv_bytes, model_name)},
      {"scored", fmt::format("{} of {} tokens, {} windows of {}, stride {}{}", r.n_scored_tokens,
                             r.n_text_tokens, r.n_windows, report.n_context, report.stride,
                             r.bos ? ", each with BOS" : "")},
      {"time", fmt::format("{:.1f} s", r.seconds)},
      {"engine " + model_name, report.model_engine},
      {"engine " + reference_name, report.reference_engine},
  });
}

nlohmann::ordered_json divergence_json(const DivergenceReport& report) {
  const DivergenceResult& r = report.result;
  return {{"model_path", report.model_path},
          {"reference_path", report.reference_path},
          {"text", report.text_path},
          {"perplexity", r.perplexity},
          {"reference_perplexity", r.reference_perplexity},
          {"kl_mean", r.mean},
          {"kl_median", r.median},
          {"kl_p99", r.p99},
          {"kl_max", r.max},
          {"top1_agreement", r.top1_agreement},
          {"rms_probability_change", r.rms_probability_change},
          {"kv_bytes_per_token", report.model_kv_bytes},
          {"reference_kv_bytes_per_token", report.reference_kv_bytes},
          {"scored_tokens", r.n_scored_tokens},
          {"text_tokens", r.n_text_tokens},
          {"windows", r.n_windows},
          {"context", report.n_context},
          {"stride", report.stride},
          {"bos", r.bos},
          {"seconds", r.seconds},
          {"engine", report.model_engine},
          {"reference_engine", report.reference_engine}};
}

}  // namespace larder
