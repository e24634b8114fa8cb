#include "larder/engine.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "base/fail.h"
#include "engine/engine_impl.h"

namespace larder {

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::open(const EngineOptions& options,
                                             const Progress& progress) {
  LARDER_TRY(validate(options));
  LARDER_ASSIGN(auto source, open_model(options.model_path));
  LARDER_ASSIGN(auto impl, Impl::create(std::move(source), options, progress));
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

Result<std::unique_ptr<Engine>> Engine::open(std::unique_ptr<ModelSource> source,
                                             const EngineOptions& options) {
  LARDER_TRY(validate(options));
  LARDER_ASSIGN(auto impl, Impl::create(std::move(source), options, {}));
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

Result<RequestId> Engine::submit(Request request) {
  LARDER_TRY(impl_->check(request));
  return impl_->submit(std::move(request));
}

Result<StepReport> Engine::step() {
  StepReport report;
  LARDER_TRY(step(report));
  return report;
}

Result<void> Engine::step(StepReport& report) {
  report.n_prefill_tokens = report.n_decode_tokens = 0;
  report.events.clear();
  ++impl_->n_steps;
  impl_->pool.set_time(static_cast<std::uint32_t>(std::fmod(1e3 * impl_->age.seconds(), 0x1p32)));
  const StepPlan& plan = impl_->scheduler.plan();  // who runs, how many tokens, which blocks
  if (plan.rows.empty()) return {};
  const Stopwatch watch;
  impl_->pack_weights();                           // if they are packed while it runs
  impl_->copy_blocks(plan);                        // copy-on-write of shared open blocks
  impl_->forward.run(impl_->batches.build(plan));  // prefill and decode in one ragged batch
  LARDER_TRY(impl_->commit_rows(plan, report));    // rows count; those that nobody sees are dropped
  LARDER_TRY(impl_->pool_rows(plan, report));      // of requests for embeddings
  LARDER_TRY(impl_->draw_tokens(plan, report));    // logits -> tokens and log-probabilities
  impl_->retire_finished();                        // finished sequences give their blocks back
  impl_->count_time(report, watch.seconds());
  impl_->give_memory_back();  // of the last request, when nothing else runs
  return {};
}

bool Engine::idle() const { return impl_->scheduler.idle(); }

Result<std::shared_ptr<const Grammar>> Engine::json_grammar(std::string_view schema,
                                                            std::string_view prefix,
                                                            std::string_view suffix) const {
  return impl_->grammars.json(schema, {std::string(prefix), std::string(suffix)});
}

void Engine::cancel(RequestId id) {
  impl_->scheduler.drop(id);
  impl_->give_memory_back();
}

void Engine::release(RequestId id) {
  impl_->kept.release(id);
  impl_->give_memory_back();
}

Result<void> Engine::stretch_kept(RequestId id, std::vector<std::int32_t> tokens) {
  return impl_->stretch_kept(id, std::move(tokens));
}

std::optional<PrefixReport> Engine::prefix_report(RequestId id) const {
  return impl_->prefix_report(id);
}

Result<std::uint32_t> Engine::pin_prefix(std::span<const std::int32_t> tokens,
                                         std::string_view salt) {
  return impl_->pin_prefix(tokens, salt);
}

std::uint32_t Engine::unpin_prefix(std::span<const std::int32_t> tokens, std::string_view salt) {
  return impl_->unpin_prefix(tokens, salt);
}

std::size_t Engine::drop_prefix(std::span<const std::int32_t> tokens, std::string_view salt) {
  return impl_->drop_prefix(tokens, salt);
}

CacheView Engine::cache_view() const { return impl_->cache_view(); }

void Engine::observe_attention(
    std::function<void(std::uint32_t layer, std::span<const float> rows)> observer) {
  impl_->forward.observe_attention(std::move(observer));
}

void Engine::observe_keys(
    std::function<void(std::uint32_t layer, std::span<const float> rows)> observer) {
  impl_->forward.observe_keys(std::move(observer));
}

const Tokenizer& Engine::tokenizer() const { return *impl_->tokenizer; }
const ModelConfig& Engine::config() const { return impl_->source->config(); }
const GenerationDefaults& Engine::generation_defaults() const {
  return impl_->source->generation_defaults();
}
const EngineOptions& Engine::options() const { return impl_->options; }
EngineStats Engine::stats() const { return impl_->current_stats(); }
std::string Engine::description() const { return impl_->description(); }
std::uint64_t Engine::kv_bytes_per_token() const { return impl_->plan.bytes_per_token; }

}  // namespace larder
