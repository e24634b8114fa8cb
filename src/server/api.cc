#include "server/api.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "base/check.h"
#include "model/config.h"
#include "server/page.h"

namespace larder {
namespace {

constexpr std::uint32_t kDefaultMaxTokens = 16;  // of a completion, as OpenAI's
constexpr std::string_view kModelsPath = "/v1/models";
constexpr std::string_view kVersionPath = "/version", kMetricsPath = "/metrics";

std::uint64_t random_bits64() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

/// 128 bits that nobody guesses: who knows a request's id may ask what of its prompt was cached.
std::string unguessable_id(std::string_view kind) {
  return fmt::format("{}-{:016x}{:016x}", kind, random_bits64(), random_bits64());
}

ApiAnswer plain(HttpReply reply) { return {std::move(reply), nullptr}; }
ApiAnswer plain(std::string body) { return plain({200, "application/json", {}, std::move(body)}); }
ApiAnswer refusal(const ApiError& error) { return plain(error_reply(error)); }

struct Route {
  std::string_view method, path;
};
constexpr std::array kRoutes = {
    Route{"GET", kHealthPath},        Route{"GET", kVersionPath},
    Route{"GET", kMetricsPath},       Route{"GET", kModelsPath},
    Route{"GET", kPagePath},          Route{"GET", "/cache"},
    Route{"GET", "/cache/explain"},   Route{"POST", "/cache/pin"},
    Route{"POST", "/cache/unpin"},    Route{"POST", "/cache/drop"},
    Route{"POST", "/v1/completions"}, Route{"POST", "/v1/chat/completions"},
    Route{"POST", "/v1/embeddings"},  Route{"POST", "/tokenize"},
    Route{"POST", "/detokenize"},
};

/// Empty when path and method fit a route.
std::optional<HttpReply> check_route(const ApiRequest& request) {
  for (const Route& route : kRoutes) {
    const bool fits = route.path == request.path ||
                      (route.path == kModelsPath && request.path.starts_with("/v1/models/"));
    if (!fits) continue;
    const bool is_get = route.method == "GET";
    if (route.method == request.method) return std::nullopt;
    if (is_get && request.method == "HEAD") return std::nullopt;  // the same without its body
    const std::string_view allowed = is_get ? "GET, HEAD" : route.method;
    HttpReply reply = error_reply({405, fmt::format("{} answers {} only", route.path, allowed),
                                   std::nullopt, "method_not_allowed"});
    reply.headers.emplace_back("Allow", std::string(allowed));
    return reply;
  }
  return error_reply({404, "there is no such path", std::nullopt, "unknown_url"});
}

/// Names from outside go into a header: only what cannot break one, and not too much of it.
std::string ignored_header(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 512;
  std::string text;
  for (const std::string& name : names) {
    if (text.size() + name.size() + 2 > kMost) {
      text += text.empty() ? "..." : ", ...";
      break;
    }
    if (!text.empty()) text += ", ";
    for (const char c : name) {
      const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                         (c >= 'A' && c <= 'Z') ||
                         std::string_view("_.-[]").find(c) != std::string_view::npos;
      text += plain ? c : '?';
    }
  }
  return text;
}

}  // namespace

HttpReply error_reply(const ApiError& error) {
  HttpReply reply;
  reply.status = error.status;
  reply.body = error_json(error);
  return reply;
}

bool is_quick(std::string_view path) {
  return path == kHealthPath || path == kVersionPath || path == kMetricsPath;
}

HttpReply loading_reply() {
  HttpReply reply = error_reply({503, "the model is still loading", std::nullopt, "loading"});
  reply.headers.emplace_back("Retry-After", "5");
  return reply;
}

Api::Api(const Engine& engine, EngineLoop& loop, Metrics& metrics, ApiOptions options,
         std::optional<ChatTemplate> chat)
    : engine_(engine),
      loop_(loop),
      metrics_(metrics),
      options_(std::move(options)),
      chat_(std::move(chat)),
      tool_style_(chat_ ? find_tool_style(*chat_) : std::nullopt),
      started_(options_.now()) {
  LARDER_CHECK(!options_.model_names.empty());
}

ApiAnswer Api::handle(const ApiRequest& request) {
  if (auto reply = check_route(request)) return plain(std::move(*reply));
  if (request.path == "/v1/completions") return generate(parse_completion_request(request.body));
  if (request.path == "/v1/chat/completions") return generate(parse_chat_request(request.body));
  if (request.path == "/v1/embeddings") return generate(parse_embedding_request(request.body));
  if (request.path == "/tokenize") return tokenize(request.body);
  if (request.path == "/detokenize") return detokenize(request.body);
  if (request.path.starts_with(kModelsPath)) return models(request.path);
  if (request.path == kPagePath) return page();
  if (request.path == "/cache") return cache_view();
  if (request.path == "/cache/explain") return explain(request.query);
  if (request.path.starts_with("/cache/")) return change_cache(request);
  if (request.path == kVersionPath) return plain(R"({"version":")" LARDER_VERSION R"("})");
  if (request.path == kMetricsPath) {
    return plain(
        {200, "text/plain; version=0.0.4; charset=utf-8", {}, metrics_.text(loop_.stats())});
  }
  if (loop_.draining()) {
    return refusal({503, "the server is shutting down", std::nullopt, "unavailable"});
  }
  return plain(R"({"status":"ok"})");
}

ApiAnswer Api::page() const {
  return plain({200,
                "text/html; charset=utf-8",
                {{"Content-Security-Policy", kPagePolicy},
                 {"X-Content-Type-Options", "nosniff"},
                 {"Cache-Control", "no-cache"}},
                page_html()});
}

ApiAnswer Api::generate(ApiResult<GenerationRequest> parsed) {
  if (!parsed) return refusal(parsed.error());
  if (auto error = check_request(*parsed)) return refusal(*error);
  auto grammar = grammar_of(*parsed);
  if (!grammar) return refusal(grammar.error());
  auto prompts = prompts_of(*parsed);
  if (!prompts) return refusal(prompts.error());
  for (const auto& tokens : prompts->tokens) {
    if (auto error = check_prompt(tokens, *parsed)) return refusal(*error);
  }
  return submit(std::move(*parsed), std::move(*prompts), std::move(*grammar));
}

/// Null: the text is free.
ApiResult<std::shared_ptr<const Grammar>> Api::grammar_of(const GenerationRequest& request) const {
  const bool must_call = request.tool_choice == ToolChoice::required;
  if (!request.schema && !must_call) return nullptr;
  ToolCallFormat format;
  if (must_call) {
    format = tool_call_format(nlohmann::ordered_json::parse(request.tools), *tool_style_);
  } else {
    format.schema = *request.schema;
  }
  auto grammar = engine_.json_grammar(format.schema, format.prefix, format.suffix);
  if (grammar) return std::move(*grammar);
  if (grammar.error().code == Errc::unavailable) return refuse(to_api_error(grammar.error()));
  const char* field = must_call ? "tools" : "response_format";
  return refuse({400, fmt::format("'{}': {}", field, grammar.error().message), field,
                 grammar.error().code == Errc::unsupported ? "unsupported" : "invalid_value"});
}

ApiAnswer Api::submit(GenerationRequest request, Prompts prompts,
                      std::shared_ptr<const Grammar> grammar) {
  ReplyPlan plan = reply_plan(request, prompts);
  std::vector<LoopRequest> requests;
  for (const auto& tokens : prompts.tokens) {
    requests.push_back(
        {engine_request(request, tokens), request.priority, request.timeout_seconds, plan.id});
    requests.back().request.grammar = grammar;
  }
  auto channel = loop_.submit(std::move(requests));
  if (!channel && channel.error().code == Errc::invalid_argument) {  // waiting would not help
    return refusal(
        {400, channel.error().message, request.embeds ? "input" : "prompt", "invalid_value"});
  }
  if (!channel) {
    metrics_.refused();
    const bool down = loop_.draining();
    HttpReply reply = error_reply({down ? 503 : 429, channel.error().message, std::nullopt,
                                   down ? "unavailable" : "queue_full"});
    reply.headers.emplace_back("Retry-After", std::to_string(loop_.retry_after_seconds()));
    return plain(std::move(reply));
  }
  ApiAnswer answer;
  if (request.stream) answer.reply.content_type = "text/event-stream";
  if (!request.ignored.empty()) {
    answer.reply.headers.emplace_back("X-Larder-Ignored", ignored_header(request.ignored));
  }
  answer.generation =
      std::make_unique<GenerationReply>(std::move(plan), std::move(*channel), engine_.tokenizer());
  return answer;
}

std::optional<ApiError> Api::check_request(const GenerationRequest& request) const {
  if (auto error = check_model(request.model)) return error;
  const std::uint32_t n_most = engine_.options().n_sequences;
  if (request.n > n_most) {
    return ApiError{
        400, fmt::format("'n' is {}, this server runs {} sequences at once", request.n, n_most),
        "n", "invalid_value"};
  }
  for (const auto& [id, bias] : request.sampling.logit_bias) {
    if (static_cast<std::uint32_t>(id) >= engine_.config().n_vocab) {
      return ApiError{400,
                      fmt::format("'logit_bias' names token {}, the model has ids 0 to {}", id,
                                  engine_.config().n_vocab - 1),
                      "logit_bias", "invalid_value"};
    }
  }
  const std::uint32_t n_embd = engine_.config().n_embd;
  if (request.dimensions.value_or(n_embd) != n_embd) {
    return ApiError{400,
                    fmt::format("'dimensions' is {}, this model's embeddings have {} and are not "
                                "made to be cut",
                                *request.dimensions, n_embd),
                    "dimensions", "invalid_value"};
  }
  return check_tools(request);
}

std::optional<ApiError> Api::check_tools(const GenerationRequest& request) const {
  if (request.tool_choice == ToolChoice::none || tool_style_) return std::nullopt;
  return ApiError{400,
                  "'tools' is not supported by this model: its chat template leaves them out, or "
                  "writes calls in a way that is not known here",
                  "tools", "unsupported"};
}

std::optional<ApiError> Api::check_model(const std::optional<std::string>& name) const {
  const auto& known = options_.model_names;
  if (!name || std::find(known.begin(), known.end(), *name) != known.end()) return std::nullopt;
  return ApiError{404,
                  fmt::format("the model '{}' is not served here, '{}' is", *name, known.front()),
                  "model", "model_not_found"};
}

ApiResult<Api::Prompts> Api::prompts_of(const GenerationRequest& request) const {
  Prompts prompts;
  if (request.chat) {
    auto tokens = chat_prompt(request.messages, request.template_arguments, ChatEnd::answer);
    if (!tokens) return refuse(std::move(tokens).error());
    prompts.tokens.push_back(std::move(*tokens));
    return prompts;
  }
  const Tokenizer& tokenizer = engine_.tokenizer();
  for (const Prompt& prompt : request.prompts) {
    const auto* text = std::get_if<std::string>(&prompt);
    prompts.tokens.push_back(text != nullptr ? continuation_tokens(tokenizer, *text)
                                             : std::get<std::vector<TokenId>>(prompt));
    if (!request.echo) continue;
    prompts.echoes.push_back(text != nullptr ? *text
                                             : tokenizer.decode(prompts.tokens.back(), true));
  }
  return prompts;
}

ApiResult<std::vector<TokenId>> Api::chat_prompt(const std::vector<ChatMessage>& messages,
                                                 std::string_view arguments, ChatEnd end) const {
  if (!chat_) {
    return refuse({400,
                   "the model has no chat template: use /v1/completions, or start the server with "
                   "--chat-template",
                   "messages", "no_chat_template"});
  }
  auto tokens = chat_tokens(*chat_, engine_.tokenizer(), messages, arguments, end);
  if (tokens) return std::move(*tokens);
  return refuse({400, "the chat template: " + tokens.error().message, "messages", "chat_template"});
}

std::optional<ApiError> Api::check_prompt(const std::vector<TokenId>& tokens,
                                          const GenerationRequest& request) const {
  const char* field = request.chat ? "messages" : request.embeds ? "input" : "prompt";
  const std::uint32_t n_context = engine_.options().n_context;
  const std::uint32_t n_vocab = engine_.config().n_vocab;
  if (tokens.empty())
    return ApiError{400, fmt::format("'{}' has no tokens", field), field, "invalid_value"};
  for (const TokenId id : tokens) {
    if (static_cast<std::uint32_t>(id) < n_vocab) continue;
    return ApiError{
        400, fmt::format("'{}' has token {}, the model has ids 0 to {}", field, id, n_vocab - 1),
        field, "invalid_value"};
  }
  if (tokens.size() > n_context) {
    return ApiError{
        400,
        fmt::format("'{}' has {} tokens, the context holds {}", field, tokens.size(), n_context),
        field, "context_length_exceeded"};
  }
  const std::uint64_t n_asked = request.max_tokens.value_or(0);
  if (tokens.size() + n_asked > n_context) {
    return ApiError{400,
                    fmt::format("'{}' has {} tokens and 'max_tokens' is {}: more than the {} that "
                                "the context holds",
                                field, tokens.size(), n_asked, n_context),
                    "max_tokens", "context_length_exceeded"};
  }
  return std::nullopt;
}

std::uint32_t Api::max_tokens(const GenerationRequest& request, std::size_t n_prompt) const {
  if (request.max_tokens) return std::max(*request.max_tokens, 1U);  // 0: drawn, but not shown
  if (request.chat) return 0;                                        // until the context is full
  const std::size_t room = engine_.options().n_context - n_prompt;
  return std::max(1U, static_cast<std::uint32_t>(std::min<std::size_t>(room, kDefaultMaxTokens)));
}

Request Api::engine_request(const GenerationRequest& request, std::vector<TokenId> prompt) const {
  Request out;
  out.max_tokens = max_tokens(request, prompt.size());
  out.prompt = std::move(prompt);
  out.n_samples = request.n;
  SamplingOptions base = options_.sampling;
  if (options_.random_seed) base.seed = random_bits64();
  out.sampling = request.sampling.over(std::move(base));
  out.stop = request.stop;
  if (request.embeds) out.pooling = options_.pooling;
  out.ignore_eos = request.ignore_eos;
  out.cache_salt = request.cache_salt;
  out.kv_policy = request.kv_policy;
  out.kv_keep = request.kv_keep;
  out.n_logprobs = request.n_logprobs;
  out.prompt_logprobs = request.echo && request.n_logprobs >= 0;
  return out;
}

ReplyPlan Api::reply_plan(const GenerationRequest& request, const Prompts& prompts) const {
  ReplyPlan plan;
  plan.id = unguessable_id(request.chat ? "chatcmpl" : request.embeds ? "embd" : "cmpl");
  plan.model = request.model.value_or(options_.model_names.front());
  plan.created = options_.now();
  plan.chat = request.chat;
  plan.embeds = request.embeds;
  plan.base64 = request.base64;
  plan.stream = request.stream;
  plan.include_usage = request.include_usage;
  plan.no_tokens = request.max_tokens == 0U;
  plan.logprobs = request.n_logprobs >= 0;
  plan.n = request.n;
  plan.prompts = prompts.tokens;
  plan.echoes = prompts.echoes;
  if (request.tool_choice != ToolChoice::none) {
    plan.tools = ToolPlan{*tool_style_, {}, request.one_call};
    for (const auto& tool : nlohmann::ordered_json::parse(request.tools)) {
      plan.tools->names.push_back(tool["function"]["name"].get<std::string>());
    }
  }
  return plan;
}

}  // namespace larder
