#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace larder {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// vLLM's, so that its dashboards fit.
const Buckets kFirstTokenSeconds = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                    0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10,
                                    20,    40,    80,   160,  640,  2560};
const Buckets kTokenSeconds = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                               0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80};
const Buckets kRequestSeconds = {0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                 30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680};
const Buckets kTokens = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000};

using BlockLifetimeCounts = decltype(EngineStats::kv_lifetimes);

/// Powers of two of milliseconds, as the engine counts; what lived longer is beyond the last.
Buckets lifetime_buckets() {
  Buckets buckets;
  for (std::size_t i = 0; i + 1 < BlockLifetimeCounts{}.size(); ++i) {
    buckets.push_back(1e-3 * static_cast<double>(std::uint64_t{1} << i));
  }
  return buckets;
}

const char* reason_label(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::none:
    case FinishReason::cancelled:
      break;
  }
  return "abort";
}

}  // namespace

struct Metrics::Series {
  explicit Series(const std::string& model_name) : labels{{"model_name", model_name}} {}

  prometheus::Gauge& gauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add(labels);
  }
  prometheus::Counter& counter(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add(labels);
  }
  prometheus::Histogram& histogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add(labels,
                                                                                     buckets);
  }
  /// Counters only go up; the engine counts by itself.
  static void raise(prometheus::Counter& counter, std::uint64_t value) {
    const double more = static_cast<double>(value) - counter.Value();
    if (more > 0) counter.Increment(more);
  }

  /// Adds what has come since the last scrape.
  void show_lifetimes(const EngineStats& engine) {
    std::vector<double> more;
    for (std::size_t i = 0; i < engine.kv_lifetimes.size(); ++i) {
      more.push_back(static_cast<double>(engine.kv_lifetimes[i] - lifetimes_shown[i]));
    }
    block_lifetime.ObserveMultiple(more, engine.kv_lifetime_seconds - lifetime_seconds_shown);
    lifetimes_shown = engine.kv_lifetimes;
    lifetime_seconds_shown = engine.kv_lifetime_seconds;
  }

  prometheus::Registry registry;
  const prometheus::Labels labels;
  std::mutex scrape;  // two scrapes must not raise a counter twice

  prometheus::Gauge& running =
      gauge("larder:num_requests_running", "Requests that the engine computes.");
  prometheus::Gauge& waiting =
      gauge("larder:num_requests_waiting", "Requests that wait for their turn.");
  prometheus::Gauge& kv_usage =
      gauge("larder:kv_cache_usage_perc",
            "Part of the KV budget in use, cached prefixes included; 1 is all.");
  prometheus::Gauge& kv_bytes = gauge("larder:kv_cache_bytes", "Bytes of live KV blocks.");
  prometheus::Gauge& kv_budget = gauge("larder:kv_cache_budget_bytes", "Most bytes of KV blocks.");
  prometheus::Counter& preemptions = counter(
      "larder:num_preemptions_total", "Sequences that gave their blocks back and started over.");
  prometheus::Counter& queries =
      counter("larder:prefix_cache_queries_total", "Prompt tokens of finished requests.");
  prometheus::Counter& hits = counter("larder:prefix_cache_hits_total",
                                      "Prompt tokens of finished requests found in the cache.");
  prometheus::Counter& prompt_tokens =
      counter("larder:prompt_tokens_total", "Prompt tokens of finished requests.");
  prometheus::Counter& generation_tokens =
      counter("larder:generation_tokens_total", "Tokens generated for finished requests.");
  prometheus::Counter& refusals =
      counter("larder:request_refused_total", "Requests refused because the queue was full.");
  prometheus::Family<prometheus::Counter>& success = prometheus::BuildCounter()
                                                         .Name("larder:request_success_total")
                                                         .Help("Requests that ended, by reason.")
                                                         .Register(registry);
  prometheus::Histogram& first_token =
      histogram("larder:time_to_first_token_seconds", "From submission to the first token.",
                kFirstTokenSeconds);
  prometheus::Histogram& next_token =
      histogram("larder:inter_token_latency_seconds", "Between a sample's tokens.", kTokenSeconds);
  prometheus::Histogram& total = histogram("larder:e2e_request_latency_seconds",
                                           "From submission to the end.", kRequestSeconds);
  prometheus::Histogram& queue = histogram("larder:request_queue_time_seconds",
                                           "Until the engine had the request.", kRequestSeconds);
  prometheus::Histogram& block_lifetime =
      histogram("larder:kv_block_lifetime_seconds",
                "How long a layer's blocks for one run of tokens were in use.", lifetime_buckets());
  BlockLifetimeCounts lifetimes_shown{};
  double lifetime_seconds_shown = 0;
  prometheus::Histogram& n_prompt =
      histogram("larder:request_prompt_tokens", "Prompt tokens of a request.", kTokens);
  prometheus::Histogram& n_generated =
      histogram("larder:request_generation_tokens", "Tokens generated for a request.", kTokens);
};

Metrics::Metrics(const std::string& model_name) : series_(std::make_unique<Series>(model_name)) {
  for (const char* reason : {"stop", "length", "abort"}) {
    series_->success.Add({{"model_name", model_name}, {"finished_reason", reason}});
  }
}

Metrics::~Metrics() = default;

void Metrics::first_token(double seconds) { series_->first_token.Observe(seconds); }
void Metrics::next_token(double seconds) { series_->next_token.Observe(seconds); }
void Metrics::refused() { series_->refusals.Increment(); }

void Metrics::finished(const FinishedRequest& request) {
  Series& s = *series_;
  prometheus::Labels labels = s.labels;
  labels["finished_reason"] = reason_label(request.finish);
  s.success.Add(labels).Increment();
  const auto n_prompt = static_cast<double>(request.n_prompt_tokens);
  const auto n_generated = static_cast<double>(request.n_generated_tokens);
  s.queries.Increment(n_prompt);
  s.hits.Increment(static_cast<double>(request.n_reused_tokens));
  s.prompt_tokens.Increment(n_prompt);
  s.generation_tokens.Increment(n_generated);
  s.total.Observe(request.seconds);
  s.queue.Observe(request.queue_seconds);
  s.n_prompt.Observe(n_prompt);
  s.n_generated.Observe(n_generated);
}

std::string Metrics::text(const LoopStats& stats) {
  Series& s = *series_;
  const std::lock_guard lock(s.scrape);
  const EngineStats& engine = stats.engine;
  const auto budget = static_cast<double>(engine.kv_budget_bytes);
  const auto bytes = static_cast<double>(engine.kv_bytes);
  s.running.Set(static_cast<double>(stats.n_running));
  s.waiting.Set(static_cast<double>(stats.n_waiting));
  s.kv_usage.Set(budget > 0 ? bytes / budget : 0);
  s.kv_bytes.Set(bytes);
  s.kv_budget.Set(budget);
  Series::raise(s.preemptions, engine.n_preempted);
  s.show_lifetimes(engine);
  return prometheus::TextSerializer().Serialize(s.registry.Collect());
}

}  // namespace larder
