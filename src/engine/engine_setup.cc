// Opening an engine: options resolved, budget checked, parts joined; requests checked and queued.
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "base/fail.h"
#include "base/thread_count.h"
#include "engine/engine_impl.h"
#include "engine/fingerprint.h"
#include "engine/forward_needs.h"
#include "engine/row_forms.h"
#include "engine/sampler.h"
#include "engine/stretch_cache.h"
#include "model/latent_forms.h"

namespace larder {
namespace {

constexpr std::uint32_t kDefaultContext = 8192;  // larger ones are asked for, not assumed
constexpr std::size_t kLogitFloats = std::size_t{1}
                                     << 22;  // 16 MiB of logits at most, if 8 rows fit

std::uint64_t ram_bytes() {
  return static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(sysconf(_SC_PAGE_SIZE));
}

void resolve(EngineOptions& options, const ModelConfig& config) {
  if (options.n_context == 0) {
    options.n_context = std::min(config.n_context_train, kDefaultContext);
  }
  options.n_threads = thread_count(options.n_threads);
}

Result<const simd::Table*> choose_isa(const std::string& name) {
  if (name.empty()) return &simd::best();
  std::string known;
  for (const simd::Table* table : simd::available()) {
    if (table->name == name) return table;
    known += (known.empty() ? "" : ", ") + std::string(table->name);
  }
  return fail(Errc::unsupported, "isa '{}' cannot run on this machine; it has: {}", name, known);
}

Result<std::unique_ptr<ThreadPool>> start_threads(unsigned n_threads) {
  try {
    return std::make_unique<ThreadPool>(n_threads);
  } catch (const std::exception& e) {
    return fail(Errc::unavailable, "the engine cannot be set up with {} threads: {}", n_threads,
                e.what());
  }
}

std::uint32_t logit_rows(std::uint32_t n_vocab) {
  return static_cast<std::uint32_t>(std::clamp<std::size_t>(kLogitFloats / n_vocab, 8, 256));
}

Result<ForwardLimits> forward_limits(const EngineOptions& options, const ModelConfig& config,
                                     const std::optional<EvictionOptions>& eviction) {
  LARDER_ASSIGN(const auto plan, reading_plan(eviction, options.kv));
  const ReadingPlan reading = plan.value_or(ReadingPlan{});
  ForwardLimits limits{options.n_batch, options.n_sequences, options.n_context,
                       logit_rows(config.n_vocab)};
  limits.reading = reading.rule;
  limits.n_full_layers = reading.n_full_layers;
  return eviction && !plan ? with_policy(limits, eviction->policy, options.kv.block_tokens)
                           : limits;
}

}  // namespace

Result<std::unique_ptr<Engine::Impl>> Engine::Impl::create(std::unique_ptr<ModelSource> source,
                                                           EngineOptions options,
                                                           const Progress& progress) {
  const ModelConfig& config = source->config();
  resolve(options, config);
  const std::uint64_t ram = ram_bytes();
  LARDER_ASSIGN(auto eviction, eviction_options(options.kv, options.n_sequences));
  LARDER_ASSIGN(const ForwardLimits limits, forward_limits(options, config, eviction));
  const std::size_t scratch = ForwardPass::scratch_bytes(config, limits, options.n_threads);
  if (source->weights_bytes() + scratch > ram) {
    return fail(Errc::invalid_argument,
                "{}: weights of {} and activations of {} ({} rows a step) do not fit the machine's "
                "{} of memory",
                source->path(), format_bytes(source->weights_bytes()), format_bytes(scratch),
                options.n_batch, format_bytes(ram));
  }
  if (source->tokenizer().kind == TokenizerKind::none) {
    return fail(Errc::unsupported,
                "{}: the model has no tokenizer (no tokenizer.json or "
                "tokenizer.model beside it, none in the GGUF file)",
                source->path());
  }
  LARDER_ASSIGN(const simd::Table* table, choose_isa(options.isa));
  const std::uint64_t left = ram - source->weights_bytes() - scratch;
  LARDER_ASSIGN(auto plan, plan_kv(config, options, eviction, left));
  options.kv.memory_bytes = plan.pool.budget_bytes;
  const std::uint64_t spare = left - plan.pool.budget_bytes;
  LARDER_ASSIGN(auto threads, start_threads(options.n_threads));
  LARDER_ASSIGN(auto weights,
                Weights::load(*source, {threads.get(), options.pack_while_running, progress}));
  LARDER_ASSIGN(auto tokenizer, Tokenizer::create(source->tokenizer()));
  LARDER_ASSIGN(auto pool, BlockPool::create(plan.pool));
  LARDER_ASSIGN(auto store, BlockStore::create(pool.range_bytes()));
  const std::uint32_t n_batch = options.n_batch;
  try {  // the one place where memory of size is asked for
    return std::make_unique<Impl>(Parts{std::move(source), std::move(tokenizer), std::move(options),
                                        std::move(eviction), std::move(plan), limits,
                                        std::move(weights), std::move(pool), std::move(store),
                                        table, std::move(threads), spare});
  } catch (const std::exception& e) {
    return fail(Errc::unavailable, "the engine cannot be set up with {} rows a step: {}", n_batch,
                e.what());
  }
}

Engine::Impl::Impl(Parts parts)
    : source(std::move(parts.source)),
      tokenizer(std::move(parts.tokenizer)),
      options(std::move(parts.options)),
      eviction(std::move(parts.eviction)),
      plan(std::move(parts.plan)),
      weights(std::move(parts.weights)),
      pool(std::move(parts.pool)),
      store(std::move(parts.store)),
      threads(std::move(parts.threads)),
      compute{*parts.simd, *threads},
      limits(parts.limits),
      forward(weights, compute, layouts_in_pool(), options.kv.block_tokens, limits),
      batches(source->config(), options.n_sequences, options.n_batch, plan.reading),
      grammars(*tokenizer, source->config().n_vocab),
      scheduler({options.n_sequences, options.n_batch}, pool, hooks()),
      max_logit_rows_(logit_rows(source->config().n_vocab)),
      logits_(std::size_t{max_logit_rows_} * source->config().n_vocab),
      spare_bytes_(parts.spare_bytes) {
  own_policy = make_policy(plan.rows, plan.rows.eviction ? eviction_text(*eviction)
                                      : plan.reading     ? reading_text(*eviction)
                                                         : "none");
  all_rows = eviction ? make_policy(plan_all_rows(options, plan), "none") : own_policy;
  if (options.kv.prefix_caching) {
    const std::string keys = plan.keys == nullptr ? "" : plan.keys->digest;
    prefixes.emplace(plan.shape, pool, cache_fingerprint(*source, format_name() + keys));
  }
}

SchedulerHooks Engine::Impl::hooks() {
  return {[this](const Sequence& s) { return make_room(s); },
          [this] { return prefixes && prefixes->drop_pins(); },
          [this](Sequence& s) { share_rows(s); },
          [this](Sequence& s) {
            share_more(s);
            begin_reread(s);
          },
          [this](const Sequence& s, const StepPlan& p) { return is_underway(s, p); },
          [](Sequence& s) { s.clear_cache(); }};
}

void Engine::Impl::pack_weights() {
  constexpr std::size_t kBytesPerStep = std::size_t{64} << 20;  // some 10 ms
  if (has_stepped_) weights.pack_some(*threads, kBytesPerStep);
  has_stepped_ = true;
}

Result<void> Engine::Impl::check(const Request& request) const {
  const ModelConfig& config = source->config();
  if (request.prompt.empty()) return fail(Errc::invalid_argument, "the prompt is empty");
  if (request.prompt.size() > options.n_context) {
    return fail(Errc::invalid_argument, "the prompt has {} tokens, the context holds {}",
                request.prompt.size(), options.n_context);
  }
  for (std::size_t i = 0; i < request.prompt.size(); ++i) {
    const TokenId id = request.prompt[i];
    if (id < 0 || static_cast<std::uint32_t>(id) >= config.n_vocab) {
      return fail(Errc::invalid_argument, "prompt token {} is {}, the model has ids 0 to {}", i, id,
                  config.n_vocab - 1);
    }
  }
  if (request.n_samples == 0 || request.n_samples > options.n_sequences) {
    return fail(Errc::invalid_argument,
                "n_samples is {}, must be 1 to {} (sequences that may run at once)",
                request.n_samples, options.n_sequences);
  }
  if (request.pooling != Pooling::none && (request.n_samples > 1 || request.prompt_logprobs)) {
    return fail(Errc::invalid_argument,
                "pooling excludes further samples and log-probabilities of the prompt");
  }
  if (request.grammar && request.grammar->tokens().n_vocab() != config.n_vocab) {
    return fail(Errc::invalid_argument,
                "the grammar is over {} tokens, the model has {}: it is another engine's",
                request.grammar->tokens().n_vocab(), config.n_vocab);
  }
  if (request.n_logprobs < -1 || request.n_logprobs > 1000) {
    return fail(Errc::invalid_argument, "n_logprobs is {}, must be -1 to 1000", request.n_logprobs);
  }
  if (request.prompt_logprobs && (request.prompt_logprobs_begin == 0 ||
                                  request.prompt_logprobs_begin > request.prompt.size())) {
    return fail(Errc::invalid_argument, "prompt_logprobs_begin is {}, must be 1 to {}",
                request.prompt_logprobs_begin, request.prompt.size());
  }
  return validate(request.sampling, config.n_vocab);
}

Result<RequestId> Engine::Impl::submit(Request request) {
  LARDER_ASSIGN(auto policy, policy_of(request));
  auto state = std::make_shared<RequestState>();
  state->id = next_id_++;
  state->request = std::move(request);
  state->policy = std::move(policy);
  const RowPlan& rows = state->policy->rows;
  const Request& r = state->request;
  if (r.prompt_logprobs) state->n_prompt_scored = r.prompt_logprobs_begin;
  auto sequence =
      std::make_unique<Sequence>(state, 0, SequenceCache(rows.shape, pool, rows.max_rows),
                                 *tokenizer, source->config().n_vocab);
  sequence->tokens.reserve(options.n_context + 1);
  sequence->n_pending_samples = r.n_samples - 1;
  if (state->policy->drops()) {
    sequence->statistics = CacheStatistics(rows.shape, state->policy->evictor->wants());
  }
  set_evictions(*sequence);
  scheduler.add(std::move(sequence));
  return state->id;
}

Result<void> Engine::Impl::stretch_kept(RequestId id, std::vector<TokenId> tokens) {
  KeptCache* stretched = kept.get(id);
  if (stretched == nullptr) return fail(Errc::invalid_argument, "request {} has no kept cache", id);
  SequenceCache& cache = stretched->cache;
  if (stretched->policy->drops()) {
    return fail(Errc::unsupported, "a kept cache cannot be stretched under kv-policy '{}'",
                stretched->policy->text);
  }
  const auto n_tokens = static_cast<std::uint32_t>(tokens.size());
  if (cache.n_rows() == 0 || cache.n_rows() % options.kv.block_tokens != 0 ||
      cache.n_rows() > n_tokens || n_tokens > options.n_context) {
    return fail(Errc::invalid_argument,
                "a kept cache of {} rows cannot be stretched to {}: blocks of {} rows, context {}",
                cache.n_rows(), n_tokens, options.kv.block_tokens, options.n_context);
  }
  if (cache.n_rows() / options.kv.block_tokens <= plan.shape.raw_blocks) {
    return fail(
        Errc::invalid_argument,
        "a kept cache of {} rows cannot be stretched: its blocks of {} rows are all among the "
        "first {}, which stay raw",
        cache.n_rows(), options.kv.block_tokens, plan.shape.raw_blocks);
  }
  if (!stretch_cache(cache, stretched->policy->rows.shape, pool, store,
                     {n_tokens, options.n_batch})) {
    return fail(Errc::unavailable, "no blocks for a kept cache of {} rows", n_tokens);
  }
  stretched->tokens = std::move(tokens);
  stretched->n_plain = plain_rows(source->config(), plan.reading, n_tokens);
  return {};
}

EngineStats Engine::Impl::current_stats() const {
  EngineStats stats = counters_;
  stats.kv_bytes = pool.bytes_in_use();
  stats.kv_peak_bytes = pool.peak_bytes();
  stats.kv_budget_bytes = pool.budget_bytes();
  stats.kv_lifetimes = pool.lifetimes().counts;
  stats.kv_lifetime_seconds = pool.lifetimes().seconds;
  stats.n_running = scheduler.n_running();
  stats.n_waiting = scheduler.n_waiting();
  stats.n_running_requests = scheduler.n_running_requests();
  stats.n_preempted = scheduler.n_preempted();
  return stats;
}

/// What the formats do not say.
std::string Engine::Impl::raw_text() const {
  const std::uint32_t n = plan.shape.raw_blocks;
  return n == 0 ? "" : fmt::format(", first {} block{} raw", n, n == 1 ? "" : "s");
}

std::string Engine::Impl::description() const {
  const std::uint32_t trained = source->config().n_context_train;
  return fmt::format("{}, {} thread{}, {}, {}-token blocks, {} KV budget, context {} x {}{}{}",
                     compute.simd.name, options.n_threads, options.n_threads == 1 ? "" : "s",
                     (source->config().has_latent() ? "latent rows " : "") +
                         formats_text(plan.formats) + raw_text(),
                     options.kv.block_tokens, format_bytes(pool.budget_bytes()), options.n_context,
                     options.n_sequences,
                     options.n_context > trained ? fmt::format(" (trained for {})", trained) : "",
                     (plan.keys == nullptr ? "" : ", keys by " + options.kv.calibration) +
                         (eviction ? ", " + own_policy->text : ""));
}

}  // namespace larder
