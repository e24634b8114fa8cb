// What comes of a generation, as OpenAI's API words it: one object, or a stream of chunks.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "larder/engine.h"
#include "model/text/tokenizer.h"
#include "server/api_error.h"
#include "server/event_channel.h"
#include "server/tool_calls.h"

namespace larder {

/// What a chat may call.
struct ToolPlan {
  ToolStyle style;
  std::vector<std::string> names;
  bool one_call = false;  // a second call is dropped
};

/// What is known of the answer before the first token.
struct ReplyPlan {
  std::string id, model;
  std::int64_t created = 0;  // seconds since 1970
  bool chat = false, stream = false, include_usage = false;
  bool embeds = false, base64 = false;  // of embeddings; base64: numbers as text
  bool no_tokens = false;               // only the prompt was asked for; what is drawn is dropped
  bool logprobs = false;
  std::uint32_t n = 1;                        // continuations of each prompt
  std::vector<std::vector<TokenId>> prompts;  // [n_prompts]
  std::vector<std::string> echoes;            // [n_prompts] texts to begin with; or empty
  std::optional<ToolPlan> tools;              // of a chat
};

/// Turns the events of one HTTP request into bytes. Nothing in here waits: the owner calls
/// `advance` whenever the channel has something. When it goes, its requests are cancelled. One
/// thread at a time; `tokenizer` must outlive it.
class GenerationReply {
 public:
  GenerationReply(ReplyPlan plan, std::shared_ptr<EventChannel> channel,
                  const Tokenizer& tokenizer);
  ~GenerationReply();
  GenerationReply(const GenerationReply&) = delete;
  GenerationReply& operator=(const GenerationReply&) = delete;

  EventChannel& channel() noexcept { return *channel_; }
  bool streams() const noexcept { return plan_.stream; }

  /// Takes in what has come. A stream returns the server-sent events to write now.
  std::string advance();
  /// Something has come, or nothing will: `error` and the status are known.
  bool started() const noexcept { return started_; }
  bool ended() const noexcept { return ended_; }
  /// Why there is no answer. A stream that has begun tells its error itself.
  std::optional<ApiError> error() const;
  /// The answer as one JSON object. REQUIRES: ended, no error, not a stream
  std::string whole() const;

 private:
  struct LoggedToken {
    std::int32_t token = -1;
    std::optional<float> logprob;  // the first token of a prompt has none
    std::vector<TokenLogprob> top;
  };
  struct Choice {
    std::string text;
    std::vector<LoggedToken> tokens;
    std::size_t n_characters = 0;  // of the tokens that were written already, for text_offset
    std::optional<ToolCallReader> reader;
    std::vector<ToolCall> calls;
    std::size_t n_written_calls = 0;
    FinishReason finish = FinishReason::none;
    bool begun = false;
  };

  void take(const ChannelEvent& event, std::string& out);
  void take_token(std::uint32_t prompt, const TokenEvent& event, std::string& out);
  void begin(std::uint32_t prompt, Choice& choice);
  void add_text(Choice& choice, std::string_view text, bool last) const;
  void write_chunk(std::uint32_t index, std::string& out);
  void write_role(std::uint32_t index, std::string& out) const;
  void write_end(std::string& out) const;
  bool gave_something() const noexcept { return n_completion_tokens_ > 0; }

  nlohmann::ordered_json head(bool chunk) const;
  nlohmann::ordered_json usage() const;
  nlohmann::ordered_json cache_details() const;
  nlohmann::ordered_json embeddings() const;
  nlohmann::ordered_json message(std::uint32_t index) const;
  nlohmann::ordered_json tool_calls(std::uint32_t index, std::size_t first, bool chunk) const;
  nlohmann::ordered_json finish_reason(const Choice& choice) const;
  nlohmann::ordered_json logprobs(std::span<const LoggedToken> tokens, std::size_t offset) const;
  nlohmann::ordered_json chat_logprobs(std::span<const LoggedToken> tokens) const;
  nlohmann::ordered_json token_entry(std::int32_t token, std::optional<float> logprob) const;

  const ReplyPlan plan_;
  const std::shared_ptr<EventChannel> channel_;  // owners: this and the engine's loop
  const Tokenizer& tokenizer_;
  std::vector<Choice> choices_;                        // [n_prompts * n]
  std::vector<std::vector<LoggedToken>> prompt_logs_;  // [n_prompts]
  std::vector<std::vector<float>> embeddings_;         // [n_prompts] of [n_embd]
  std::vector<std::uint32_t> n_reused_;                // [n_prompts]
  std::vector<CacheUsage> cache_usages_;               // of the choices that have ended
  std::uint64_t n_completion_tokens_ = 0;
  std::optional<Error> error_;
  bool started_ = false, ended_ = false;
};

/// One server-sent event.
std::string sse_event(const std::string& data);
/// The engine's error with the status that belongs to it.
ApiError to_api_error(const Error& error);

}  // namespace larder
