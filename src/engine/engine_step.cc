// The phases of a step: rows are committed, tokens drawn, sequences retired.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "base/fail.h"
#include "engine/engine_impl.h"
#include "engine/sampler.h"

namespace larder {
namespace {

/// By the exponent's bits, so that the loop becomes integer vector code.
bool all_finite(std::span<const float> values) {
  constexpr std::uint32_t kExponent = 0x7f800000U;
  std::uint32_t n_bad = 0;
  for (const float v : values) n_bad += (std::bit_cast<std::uint32_t>(v) & kExponent) == kExponent;
  return n_bad == 0;
}

}  // namespace

void Engine::Impl::copy_blocks(const StepPlan& step_plan) {
  for (const BlockCopy& copy : step_plan.copies) {
    store.copy(copy.from, copy.to, pool.block_bytes(pool.block_class(copy.to)));
  }
}

/// After an error of the model's: what else it computed in this step is worth as little.
void Engine::Impl::drop_requests(const StepPlan& step_plan) {
  std::vector<RequestId> ids;
  for (const PlannedRows& planned : step_plan.rows) ids.push_back(planned.sequence->request->id);
  for (const RequestId id : ids) scheduler.drop(id);
}

Result<void> Engine::Impl::commit_rows(const PlannedRows& planned) {
  Sequence& sequence = *planned.sequence;
  sequence.cache.commit(planned.n_rows);
  if (planned.rereads) {
    end_reread(sequence);
    return {};
  }
  if (!sequence.evictions.contains(sequence.cache.n_rows())) {
    publish_rows(sequence, planned.n_rows);
    begin_reread(sequence);
    return {};
  }
  const auto evicted = sequence.policy().evictor->evict(sequence.cache, sequence.evictions.n_keep,
                                                        sequence.statistics, sequence.tokens);
  if (evicted) {
    leave_compressed(sequence);
    return {};
  }
  return fail(evicted.error().code, "{}: {}", source->path(), evicted.error().message);
}

Result<void> Engine::Impl::commit_rows(const StepPlan& step_plan, StepReport& report) {
  draws_.clear();
  for (const PlannedRows& planned : step_plan.rows) {
    const Sequence& s = *planned.sequence;
    const bool decodes = s.n_missing() == 1 && s.n_generated() > 0;
    (decodes ? report.n_decode_tokens : report.n_prefill_tokens) += planned.n_rows;
    if (auto committed = commit_rows(planned); !committed) {
      drop_requests(step_plan);
      return committed;
    }
  }
  for (const LogitsWanted& wanted : batches.logits_wanted()) {
    draws_.emplace_back().wanted = wanted;
    if (wanted.target == kNoToken && wanted.sequence->n_pending_samples > 0) {
      fork_samples(*wanted.sequence, wanted.row);
    }
  }
  return {};
}

/// The prompt is computed: the other samples of the request share its blocks from here on, and draw
/// from the same logits.
void Engine::Impl::fork_samples(Sequence& first, std::uint32_t row) {
  const std::uint32_t n = std::exchange(first.n_pending_samples, 0);
  for (std::uint32_t i = 1; i <= n; ++i) {
    auto sample =
        std::make_unique<Sequence>(first.request, i, first.cache.fork(first.cache.n_rows()),
                                   *tokenizer, source->config().n_vocab);
    sample->evictions = first.evictions;
    sample->n_to_share = first.n_to_share;
    sample->statistics = first.statistics;
    draws_.emplace_back().wanted = {row, scheduler.add_sample(std::move(sample)), kNoToken};
  }
}

Result<void> Engine::Impl::draw_tokens(const StepPlan& step_plan, StepReport& report) {
  const std::size_t n_vocab = source->config().n_vocab;
  for (std::size_t begin = 0; begin < draws_.size();) {
    // The samples of one prompt draw from the same row: computed once.
    logit_rows_.clear();
    std::size_t end = begin;
    for (; end < draws_.size(); ++end) {
      const std::uint32_t row = draws_[end].wanted.row;
      if (logit_rows_.empty() || logit_rows_.back() != row) {
        if (logit_rows_.size() == max_logit_rows_) break;
        logit_rows_.push_back(row);
      }
      draws_[end].logits_index = logit_rows_.size() - 1;
    }
    forward.logits(logit_rows_, logits_.span().first(logit_rows_.size() * n_vocab));
    threads->for_each(end - begin, [&](std::size_t i, unsigned) {
      Draw& d = draws_[begin + i];
      draw(d, logits_.span().subspan(d.logits_index * n_vocab, n_vocab));
    });
    show_prompt_logits(std::span(draws_).subspan(begin, end - begin));
    begin = end;
  }
  if (std::any_of(draws_.begin(), draws_.end(), [](const Draw& d) { return d.is_broken; })) {
    return drop_broken(step_plan);
  }
  for (Draw& d : draws_) {
    if (d.wanted.target != kNoToken) {
      report_prompt_token(d, report);
    } else {
      accept_token(d, report);
    }
  }
  return {};
}

tl::unexpected<Error> Engine::Impl::drop_broken(const StepPlan& step_plan) {
  drop_requests(step_plan);
  return fail(Errc::corrupt,
              "{}: the model computes logits that are no numbers; a weight is damaged",
              source->path());
}

/// Rows are added in the order of their positions, so that chunks make no difference.
Result<void> Engine::Impl::pool_rows(const StepPlan& step_plan, StepReport& report) {
  const std::size_t n_embd = source->config().n_embd;
  std::uint32_t first_row = 0;
  for (const PlannedRows& planned : step_plan.rows) {
    const std::uint32_t begin = first_row, end = first_row += planned.n_rows;
    Sequence& sequence = *planned.sequence;
    const Pooling pooling = sequence.request->request.pooling;
    if (pooling == Pooling::none || planned.rereads) continue;
    const bool is_last = sequence.n_missing() == 0;
    if (sequence.cache.n_rows() == planned.n_rows || pooling == Pooling::last) {
      sequence.pooled.assign(n_embd, 0);  // the first rows, perhaps after a preemption
    }
    std::vector<float> row(n_embd);
    for (std::uint32_t i = pooling == Pooling::last ? end - 1 : begin; i < end; ++i) {
      forward.hidden(i, row);
      if (!all_finite(row)) return drop_broken(step_plan);
      for (std::size_t c = 0; c < n_embd; ++c) sequence.pooled[c] += row[c];
    }
    if (!is_last) continue;
    double length = 0;  // the mean and the sum point the same way
    for (const double x : sequence.pooled) length += x * x;
    const double scale = length > 0 ? 1 / std::sqrt(length) : 0;
    TokenEvent& event = report.events.emplace_back();
    event.request = sequence.request->id;
    event.n_reused_tokens = sequence.request->n_reused_tokens;
    for (const double x : sequence.pooled) event.embedding.push_back(static_cast<float>(x * scale));
    event.finish = sequence.finish = FinishReason::stop;
    event.cache = sequence.usage();
  }
  return {};
}

void Engine::Impl::show_prompt_logits(std::span<const Draw> drawn) const {
  const std::size_t n_vocab = source->config().n_vocab;
  for (const Draw& d : drawn) {
    if (d.wanted.target == kNoToken || d.is_broken) continue;
    const Sequence& sequence = *d.wanted.sequence;
    const auto& hears = sequence.request->request.prompt_logits;
    if (hears) {
      hears({d.token, logits_.span().subspan(d.logits_index * n_vocab, n_vocab)});
    }
  }
}

/// Runs on any thread: touches its own sequence's sampler only.
void Engine::Impl::draw(Draw& draw, std::span<const float> row) const {
  Sequence& sequence = *draw.wanted.sequence;
  const std::int32_t n_logprobs = sequence.request->request.n_logprobs;
  draw.is_broken = !all_finite(row);
  if (draw.is_broken) return;
  if (draw.wanted.target != kNoToken) {
    draw.token = draw.wanted.target;
    draw.logprob = log_probability(row, draw.token);
    return;
  }
  const bool may_end = !sequence.request->request.ignore_eos;
  const TokenMask* open = sequence.matcher ? &sequence.matcher->next_tokens(may_end) : nullptr;
  draw.is_stuck = open != nullptr && open->empty();
  draw.token = draw.is_stuck ? 0 : sequence.sampler.sample(row, sequence.tokens, open);
  if (n_logprobs >= 0) draw.logprob = log_probability(row, draw.token);
  if (n_logprobs > 0) {
    draw.top = top_log_probabilities(row, static_cast<std::uint32_t>(n_logprobs));
  }
}

void Engine::Impl::report_prompt_token(const Draw& draw, StepReport& report) {
  RequestState& request = *draw.wanted.sequence->request;
  if (report.events.empty() || report.events.back().request != request.id ||
      report.events.back().token != kNoToken) {
    report.events.emplace_back().request = request.id;
  }
  report.events.back().prompt.push_back({draw.token, draw.logprob});
  ++request.n_prompt_scored;
}

void Engine::Impl::accept_token(Draw& draw, StepReport& report) {
  Sequence& sequence = *draw.wanted.sequence;
  const Request& request = sequence.request->request;
  sequence.tokens.push_back(draw.token);

  TokenEvent& event = report.events.emplace_back();
  event.request = sequence.request->id;
  event.sample = sequence.sample;
  event.token = draw.token;
  event.n_reused_tokens = sequence.request->n_reused_tokens;
  if (request.n_logprobs >= 0) event.logprob = TokenLogprob{draw.token, draw.logprob};
  event.top = std::move(draw.top);

  const bool ends_by_token = !request.ignore_eos && tokenizer->ends_generation(draw.token);
  if (draw.is_stuck) {
    sequence.finish = FinishReason::length;  // cut off, as by max_tokens
  } else if (ends_by_token) {
    sequence.finish = FinishReason::stop;
  } else {
    if (sequence.matcher) sequence.matcher->accept(draw.token);
    sequence.finish = finish_reason(sequence);
    event.text = sequence.stops.push(sequence.decoder.push(draw.token));
  }
  if (sequence.stops.stopped()) sequence.finish = FinishReason::stop;
  if (sequence.finish != FinishReason::none) {
    event.text += sequence.stops.push(sequence.decoder.finish());
    event.text += sequence.stops.finish();
    if (sequence.stops.stopped()) sequence.finish = FinishReason::stop;
  }
  event.finish = sequence.finish;
  if (event.finish != FinishReason::none) event.cache = sequence.usage();
}

/// Of a sequence whose newest token is no end token.
FinishReason Engine::Impl::finish_reason(const Sequence& sequence) const {
  const Request& request = sequence.request->request;
  if (sequence.matcher && sequence.matcher->is_over()) return FinishReason::stop;
  if (request.max_tokens != 0 && sequence.n_generated() >= request.max_tokens) {
    return FinishReason::length;
  }
  // The drawn token would need a row of its own.
  if (sequence.tokens.size() > options.n_context) return FinishReason::length;
  return FinishReason::none;
}

void Engine::Impl::retire_finished() {
  for (auto& sequence : scheduler.take_finished()) {
    const RequestState& request = *sequence->request;
    note_usage(*sequence);
    leave_compressed(*sequence);
    const PrefixKey key = prefix_key(*sequence);
    if (leaves_rows(*sequence)) prefixes->publish(key, sequence->cache, true);
    if (request.request.keep_cache && sequence->sample == 0) {
      kept.keep(request.id,
                {request.policy, std::move(sequence->tokens), std::move(sequence->cache),
                 key.n_plain, sequence->evictions, std::move(sequence->statistics)});
    }
  }
}

/// Free slabs that were used go back to the operating system, while nothing runs that could want
/// them.
void Engine::Impl::give_memory_back() {
  if (!scheduler.idle()) return;
  std::array<PoolRange, 64> ranges;
  while (const std::size_t n = pool.take_idle(ranges)) {
    for (const PoolRange& range : std::span(ranges).first(n)) {
      store.discard(range.offset, range.bytes);
    }
  }
}

void Engine::Impl::count_time(const StepReport& report, double seconds) {
  counters_.n_prefill_tokens += report.n_prefill_tokens;
  counters_.n_decode_tokens += report.n_decode_tokens;
  const double n_rows = report.n_prefill_tokens + report.n_decode_tokens;
  counters_.prefill_seconds += seconds * report.n_prefill_tokens / n_rows;
  counters_.decode_seconds += seconds * report.n_decode_tokens / n_rows;
}

}  // namespace larder
