// One request driven to its end, and what came of it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "larder/engine.h"

namespace larder {

struct GeneratedToken {
  std::int32_t token;
  std::optional<TokenLogprob> logprob;
  std::vector<TokenLogprob> top;
};

struct GeneratedSample {
  std::string text;
  std::vector<GeneratedToken> tokens;
  FinishReason finish = FinishReason::none;
};

struct Generation {
  RequestId id = 0;
  std::vector<GeneratedSample> samples;
  std::uint64_t n_prompt_tokens = 0;
  std::uint64_t n_reused_tokens = 0;  // of the prompt, found in a kept cache
  std::uint64_t n_prefilled_tokens = 0;
  std::uint64_t n_decoded_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;
  double first_token_seconds = 0;  // from submission; 0 when there was none
  bool interrupted = false;        // Ctrl-C: the request was cancelled
};

/// Submits `request` and steps until it has ended or Ctrl-C was pressed (see InterruptGuard).
/// `show` gets every event as it comes. Errors: those of Engine::submit and Engine::step; io when
/// standard output is lost (what comes would reach nobody).
Result<Generation> generate(Engine& engine, Request request,
                            const std::function<void(const TokenEvent&)>& show);

std::string_view finish_name(FinishReason reason);

}  // namespace larder
