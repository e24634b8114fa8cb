// The bodies of /v1/completions, /v1/chat/completions and /v1/embeddings as typed values.
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

/// `tool_choice`: with `none` the model hears of no tools.
enum class ToolChoice : std::uint8_t { none, automatic, required };

using Prompt = std::variant<std::string, std::vector<TokenId>>;

struct GenerationRequest {
  bool chat = false;
  std::optional<std::string> model;
  std::vector<Prompt> prompts;        // of a completion: one or more
  std::vector<ChatMessage> messages;  // of a chat: one or more
  std::string template_arguments;     // of a chat: a JSON object, or empty
  std::string tools;  // of a chat: a JSON list of those that may be called, or empty
  ToolChoice tool_choice = ToolChoice::none;
  bool one_call = false;  // a second call is dropped
  std::optional<std::uint32_t> max_tokens;
  std::uint32_t n = 1;
  bool stream = false, include_usage = false;
  bool echo = false, ignore_eos = false;
  bool embeds = false, base64 = false;  // of embeddings; base64: numbers as text
  std::optional<std::uint32_t> dimensions;
  std::int32_t n_logprobs = -1;  // as Request::n_logprobs
  std::vector<std::string> stop;
  std::optional<std::string> schema;  // JSON Schema that the text must satisfy
  SamplingOverrides sampling;
  std::string cache_salt;
  std::optional<std::string> kv_policy, kv_keep;  // as Request's
  std::int32_t priority = 0;                      // lower goes first
  double timeout_seconds = 0;                     // 0: none
  std::vector<std::string> ignored;               // names of the fields that have no meaning here
};

/// All read untrusted text: limits hold before memory is taken by them. Errors: 400, naming the
/// field and the value.
ApiResult<GenerationRequest> parse_completion_request(std::string_view body);
ApiResult<GenerationRequest> parse_chat_request(std::string_view body);
ApiResult<GenerationRequest> parse_embedding_request(std::string_view body);

}  // namespace larder
