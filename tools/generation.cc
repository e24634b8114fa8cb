#include "generation.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "base/fail.h"
#include "terminal.h"

namespace larder {
namespace {

using Clock = std::chrono::steady_clock;

void absorb(TokenEvent event, Generation& generation) {
  GeneratedSample& sample = generation.samples[event.sample];
  sample.text += event.text;
  if (event.token >= 0) {
    sample.tokens.push_back({event.token, event.logprob, std::move(event.top)});
  }
  if (event.finish != FinishReason::none) sample.finish = event.finish;
}

bool all_finished(const Generation& generation) {
  return std::all_of(generation.samples.begin(), generation.samples.end(),
                     [](const auto& sample) { return sample.finish != FinishReason::none; });
}

void add_difference(const EngineStats& before, const EngineStats& after, Generation& generation) {
  generation.n_reused_tokens = after.n_reused_tokens - before.n_reused_tokens;
  generation.n_prefilled_tokens = after.n_prefill_tokens - before.n_prefill_tokens;
  generation.n_decoded_tokens = after.n_decode_tokens - before.n_decode_tokens;
  generation.prefill_seconds = after.prefill_seconds - before.prefill_seconds;
  generation.decode_seconds = after.decode_seconds - before.decode_seconds;
}

}  // namespace

Result<Generation> generate(Engine& engine, Request request,
                            const std::function<void(const TokenEvent&)>& show) {
  Generation generation;
  generation.n_prompt_tokens = request.prompt.size();
  generation.samples.resize(request.n_samples);
  const EngineStats before = engine.stats();
  const auto begin = Clock::now();
  LARDER_ASSIGN(generation.id, engine.submit(std::move(request)));
  while (!all_finished(generation)) {
    if (InterruptGuard::interrupted()) {
      engine.cancel(generation.id);
      generation.interrupted = true;
      for (auto& sample : generation.samples) {
        if (sample.finish == FinishReason::none) sample.finish = FinishReason::cancelled;
      }
      break;
    }
    if (std::ferror(stdout) != 0) {
      return fail(Errc::io, "standard output cannot be written, the rest is not computed");
    }
    LARDER_ASSIGN(StepReport report, engine.step());
    for (TokenEvent& event : report.events) {
      if (event.request != generation.id) continue;
      if (event.token >= 0 && generation.first_token_seconds == 0) {
        generation.first_token_seconds =
            std::chrono::duration<double>(Clock::now() - begin).count();
      }
      show(event);
      absorb(std::move(event), generation);
    }
    if (report.events.empty() && engine.idle()) {
      return fail(Errc::unavailable, "the engine is idle before the request has ended");
    }
  }
  add_difference(before, engine.stats(), generation);
  return generation;
}

std::string_view finish_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::none:
      return "none";
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
  }
  return "none";
}

}  // namespace larder
