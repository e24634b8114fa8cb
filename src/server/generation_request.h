// The bodies of /v1/completions and /v1/chat/completions as typed values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/block_id.h"
#include "larder/engine.h"
#include "model/text/chat_prompt.h"
#include "server/api_error.h"

namespace larder {

/// What a request sets of SamplingOptions; the rest is the server's own.
struct SamplingOverrides {
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<float> presence_penalty, frequency_penalty;
  std::optional<std::uint32_t> top_k;
  std::optional<std::uint64_t> seed;
  std::vector<std::pair<std::int32_t, float>> logit_bias;

  SamplingOptions over(SamplingOptions base) const;
};

using Prompt = std::variant<std::string, std::vector<TokenId>>;

struct GenerationRequest {
  bool chat = false;
  std::optional<std::string> model;
  std::vector<Prompt> prompts;        // of a completion: one or more
  std::vector<ChatMessage> messages;  // of a chat: one or more
  std::string template_arguments;     // of a chat: a JSON object, or empty
  std::optional<std::uint32_t> max_tokens;
  std::uint32_t n = 1;
  bool stream = false, include_usage = false;
  bool echo = false, ignore_eos = false;
  std::int32_t n_logprobs = -1;  // as Request::n_logprobs
  std::vector<std::string> stop;
  SamplingOverrides sampling;
  std::string cache_salt;
  std::int32_t priority = 0;         // lower goes first
  double timeout_seconds = 0;        // 0: none
  std::vector<std::string> ignored;  // names of the fields that have no meaning here
};

/// Both read untrusted text: limits hold before memory is taken by them. Errors: 400, naming the
/// field and the value.
ApiResult<GenerationRequest> parse_completion_request(std::string_view body);
ApiResult<GenerationRequest> parse_chat_request(std::string_view body);

}  // namespace larder
