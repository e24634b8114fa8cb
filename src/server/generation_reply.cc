#include "server/generation_reply.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

std::string to_text(const Json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

Json finish_json(FinishReason reason) {
  switch (reason) {
    case FinishReason::none:
      return nullptr;
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "abort";
  }
  return nullptr;
}

std::size_t n_characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

}  // namespace

std::string sse_event(const std::string& data) { return "data: " + data + "\n\n"; }

ApiError to_api_error(const Error& error) {
  const bool is_wrong = error.code == Errc::invalid_argument || error.code == Errc::unsupported;
  for (const char* field : {"kv_policy", "kv_keep"}) {  // what else can be wrong was seen before
    if (!is_wrong || !error.message.starts_with(field)) continue;
    return {400, error.message, field,
            error.code == Errc::unsupported ? "unsupported" : "invalid_value"};
  }
  switch (error.code) {
    case Errc::invalid_argument:
    case Errc::unsupported:
      return {400, error.message, std::nullopt, std::nullopt};
    case Errc::unavailable:
      return {503, error.message, std::nullopt, "unavailable"};
    case Errc::not_found:
    case Errc::io:
    case Errc::corrupt:
      break;
  }
  return {500, error.message, std::nullopt, std::nullopt};
}

GenerationReply::GenerationReply(ReplyPlan plan, std::shared_ptr<EventChannel> channel,
                                 const Tokenizer& tokenizer)
    : plan_(std::move(plan)),
      channel_(std::move(channel)),
      tokenizer_(tokenizer),
      choices_(plan_.prompts.size() * plan_.n),
      prompt_logs_(plan_.prompts.size()),
      embeddings_(plan_.prompts.size()),
      n_reused_(plan_.prompts.size()) {
  if (!plan_.tools) return;
  for (Choice& choice : choices_) choice.reader.emplace(plan_.tools->style, plan_.tools->names);
}

GenerationReply::~GenerationReply() { channel_->abandon(); }

std::string GenerationReply::advance() {
  std::string out;
  for (const ChannelEvent& event : channel_->take()) take(event, out);
  if (ended_ || !channel_->ended()) return out;
  started_ = ended_ = true;
  error_ = channel_->error();
  for (Choice& choice : choices_) {
    if (choice.finish == FinishReason::none) add_text(choice, "", /*last=*/true);
  }
  if (plan_.stream) write_end(out);
  return out;
}

std::optional<ApiError> GenerationReply::error() const {
  if (!error_) return std::nullopt;
  // A server that goes down returns what there is.
  if (!plan_.stream && error_->code == Errc::unavailable && gave_something()) return std::nullopt;
  return to_api_error(*error_);
}

void GenerationReply::take(const ChannelEvent& event, std::string& out) {
  started_ = true;
  auto& log = prompt_logs_[event.index];
  for (const TokenLogprob& scored : event.event.prompt) {
    if (log.empty()) log.push_back({plan_.prompts[event.index].front(), std::nullopt, {}});
    log.push_back({scored.token, scored.logprob, {}});
  }
  if (plan_.embeds) {
    embeddings_[event.index] = event.event.embedding;
    n_reused_[event.index] = event.event.n_reused_tokens;
  }
  if (event.event.token >= 0) take_token(event.index, event.event, out);
}

void GenerationReply::take_token(std::uint32_t prompt, const TokenEvent& event, std::string& out) {
  const std::uint32_t index = prompt * plan_.n + event.sample;
  Choice& choice = choices_[index];
  n_reused_[prompt] = event.n_reused_tokens;
  if (event.cache) cache_usages_.push_back(*event.cache);
  if (!choice.begun) {
    begin(prompt, choice);
    if (plan_.stream && plan_.chat) write_role(index, out);
  }
  choice.finish = event.finish;
  if (!plan_.no_tokens) {
    ++n_completion_tokens_;
    add_text(choice, event.text, event.finish != FinishReason::none);
    if (event.logprob) choice.tokens.push_back({event.token, event.logprob->logprob, event.top});
  }
  if (plan_.stream) write_chunk(index, out);
}

void GenerationReply::add_text(Choice& choice, std::string_view text, bool last) const {
  if (!choice.reader) {
    choice.text += text;
    return;
  }
  ToolCallReader::Piece piece = choice.reader->push(text, last);
  choice.text += piece.text;
  for (ToolCall& call : piece.calls) {
    if (plan_.tools->one_call && !choice.calls.empty()) break;
    choice.calls.push_back(std::move(call));
  }
}

/// An echo stands before the first token.
void GenerationReply::begin(std::uint32_t prompt, Choice& choice) {
  choice.begun = true;
  if (plan_.echoes.empty()) return;
  choice.text = plan_.echoes[prompt];
  if (!plan_.logprobs) return;
  choice.tokens = prompt_logs_[prompt];
  // A prompt of one token has nothing to score.
  if (choice.tokens.empty()) choice.tokens.push_back({plan_.prompts[prompt].front(), {}, {}});
}

/// What is new of a choice; nothing when a character or a stop text is still incomplete.
void GenerationReply::write_chunk(std::uint32_t index, std::string& out) {
  Choice& choice = choices_[index];
  const std::string text = std::exchange(choice.text, {});
  const auto tokens = std::exchange(choice.tokens, {});
  const std::size_t first_call = std::exchange(choice.n_written_calls, choice.calls.size());
  const bool has_calls = first_call < choice.calls.size();
  if (text.empty() && tokens.empty() && !has_calls && choice.finish == FinishReason::none) return;
  Json entry;
  entry["index"] = index;
  if (plan_.chat) {
    entry["delta"] = Json::object();
    if (!text.empty() || (!tokens.empty() && !has_calls)) entry["delta"]["content"] = text;
    if (has_calls) entry["delta"]["tool_calls"] = tool_calls(index, first_call, /*chunk=*/true);
  } else {
    entry["text"] = text;
  }
  entry["logprobs"] = tokens.empty() ? Json(nullptr) : logprobs(tokens, choice.n_characters);
  for (const LoggedToken& token : tokens) {
    choice.n_characters += n_characters(tokenizer_.piece(token.token, true));
  }
  entry["finish_reason"] = finish_reason(choice);
  Json chunk = head(/*chunk=*/true);
  chunk["choices"] = Json::array({std::move(entry)});
  if (plan_.include_usage) chunk["usage"] = nullptr;
  out += sse_event(to_text(chunk));
}

void GenerationReply::write_role(std::uint32_t index, std::string& out) const {
  Json entry;
  entry["index"] = index;
  entry["delta"] = {{"role", "assistant"}, {"content", ""}};
  entry["logprobs"] = nullptr;
  entry["finish_reason"] = nullptr;
  Json chunk = head(/*chunk=*/true);
  chunk["choices"] = Json::array({std::move(entry)});
  if (plan_.include_usage) chunk["usage"] = nullptr;
  out += sse_event(to_text(chunk));
}

void GenerationReply::write_end(std::string& out) const {
  if (error_) {
    out += sse_event(error_json(to_api_error(*error_)));
    return;
  }
  if (plan_.include_usage) {
    Json chunk = head(/*chunk=*/true);
    chunk["choices"] = Json::array();
    chunk["usage"] = usage();
    out += sse_event(to_text(chunk));
  }
  out += sse_event("[DONE]");
}

std::string GenerationReply::whole() const {
  if (plan_.embeds) return to_text(embeddings());
  Json json = head(/*chunk=*/false);
  json["choices"] = Json::array();
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    const Choice& choice = choices_[i];
    Json entry;
    entry["index"] = i;
    if (plan_.chat) {
      entry["message"] = message(static_cast<std::uint32_t>(i));
    } else {
      entry["text"] = choice.text;
    }
    entry["logprobs"] = plan_.logprobs ? logprobs(choice.tokens, 0) : Json(nullptr);
    const bool cut = choice.finish == FinishReason::none;  // by the end of the server
    entry["finish_reason"] = cut ? finish_json(FinishReason::cancelled) : finish_reason(choice);
    json["choices"].push_back(std::move(entry));
  }
  json["usage"] = usage();
  return to_text(json);
}

Json GenerationReply::head(bool chunk) const {
  Json json;
  json["id"] = plan_.id;
  if (plan_.chat) {
    json["object"] = chunk ? "chat.completion.chunk" : "chat.completion";
  } else {
    json["object"] = "text_completion";
  }
  json["created"] = plan_.created;
  json["model"] = plan_.model;
  return json;
}

Json GenerationReply::finish_reason(const Choice& choice) const {
  if (choice.finish == FinishReason::stop && !choice.calls.empty()) return "tool_calls";
  return finish_json(choice.finish);
}

Json GenerationReply::message(std::uint32_t index) const {
  const Choice& choice = choices_[index];
  Json json = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
  if (choice.calls.empty()) return json;
  if (choice.text.empty()) json["content"] = nullptr;
  json["tool_calls"] = tool_calls(index, 0, /*chunk=*/false);
  return json;
}

/// Those from `first` on. Each comes whole, also in a stream.
Json GenerationReply::tool_calls(std::uint32_t index, std::size_t first, bool chunk) const {
  const auto& calls = choices_[index].calls;
  Json list = Json::array();
  for (std::size_t i = first; i < calls.size(); ++i) {
    Json json;
    if (chunk) json["index"] = i;
    json["id"] = fmt::format("call_{}_{}_{}", plan_.id.substr(plan_.id.find('-') + 1), index, i);
    json["type"] = "function";
    json["function"] = {{"name", calls[i].name}, {"arguments", calls[i].arguments}};
    list.push_back(std::move(json));
  }
  return list;
}

Json GenerationReply::usage() const {
  std::uint64_t n_prompt = 0, n_cached = 0;
  for (const auto& prompt : plan_.prompts) n_prompt += prompt.size();
  for (const std::uint32_t n : n_reused_) n_cached += n;
  Json json;
  json["prompt_tokens"] = n_prompt;
  if (!plan_.embeds) json["completion_tokens"] = n_completion_tokens_;
  json["total_tokens"] = n_prompt + n_completion_tokens_;
  json["prompt_tokens_details"]["cached_tokens"] = n_cached;
  if (!cache_usages_.empty()) json["kv_cache_details"] = cache_details();
  return json;
}

/// Means over the choices that came to their end.
Json GenerationReply::cache_details() const {
  double n_kept = 0, n_tokens = 0, bytes = 0;
  for (const CacheUsage& usage : cache_usages_) {
    n_kept += usage.n_kept_tokens;
    n_tokens += usage.n_tokens;
    bytes += static_cast<double>(usage.bytes);
  }
  const auto n = static_cast<double>(cache_usages_.size());
  Json json;
  json["kept_tokens"] = n_kept / n;
  json["dropped_tokens"] = (n_tokens - n_kept) / n;
  json["bytes"] = static_cast<std::uint64_t>(bytes / n);
  return json;
}

Json GenerationReply::token_entry(std::int32_t token, std::optional<float> logprob) const {
  const std::string piece = tokenizer_.piece(token, true);
  Json entry;
  entry["token"] = piece;
  entry["logprob"] = logprob ? Json(*logprob) : Json(nullptr);
  entry["bytes"] = Json::array();
  for (const char c : piece) entry["bytes"].push_back(static_cast<unsigned char>(c));
  return entry;
}

Json GenerationReply::chat_logprobs(std::span<const LoggedToken> tokens) const {
  Json content = Json::array();
  for (const LoggedToken& token : tokens) {
    Json entry = token_entry(token.token, token.logprob);
    entry["top_logprobs"] = Json::array();
    for (const TokenLogprob& other : token.top) {
      entry["top_logprobs"].push_back(token_entry(other.token, other.logprob));
    }
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json GenerationReply::logprobs(std::span<const LoggedToken> tokens, std::size_t offset) const {
  if (plan_.chat) return chat_logprobs(tokens);
  Json json;
  for (const char* name : {"text_offset", "token_logprobs", "tokens", "top_logprobs"}) {
    json[name] = Json::array();
  }
  for (const LoggedToken& token : tokens) {
    const std::string piece = tokenizer_.piece(token.token, true);
    json["text_offset"].push_back(offset);
    offset += n_characters(piece);
    json["token_logprobs"].push_back(token.logprob ? Json(*token.logprob) : Json(nullptr));
    json["tokens"].push_back(piece);
    Json top = token.top.empty() ? Json(nullptr) : Json::object();
    for (const TokenLogprob& other : token.top) {
      top[tokenizer_.piece(other.token, true)] = other.logprob;
    }
    json["top_logprobs"].push_back(std::move(top));
  }
  return json;
}

}  // namespace larder
