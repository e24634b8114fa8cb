// The routes of the server, without sockets: a request in, an answer out.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/engine.h"
#include "model/text/chat_prompt.h"
#include "server/api_error.h"
#include "server/engine_loop.h"
#include "server/generation_reply.h"
#include "server/generation_request.h"
#include "server/metrics.h"
#include "server/tool_calls.h"

namespace larder {

class FieldReader;

struct ApiRequest {
  std::string method;  // "GET"
  std::string path;    // without the query
  std::string body;
  std::string query = {};  // what stands behind the '?', as it came
};

struct HttpReply {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

/// Either a reply, or a generation that will become one; its headers are those of `reply`.
struct ApiAnswer {
  HttpReply reply;
  std::unique_ptr<GenerationReply> generation;
};

struct ApiOptions {
  std::vector<std::string> model_names;  // what requests may call the model; the first is shown
  SamplingOptions sampling;              // where a request says nothing
  Pooling pooling = Pooling::mean;       // of embeddings
  bool random_seed = true;               // a request without a seed gets one drawn at random
  std::function<std::int64_t()> now;     // seconds since 1970
};

/// Knows the model, the loop and the API's words. Thread-safe.
class Api {
 public:
  /// `engine`, `loop` and `metrics` must outlive it. REQUIRES: a model name and a clock
  Api(const Engine& engine, EngineLoop& loop, Metrics& metrics, ApiOptions options,
      std::optional<ChatTemplate> chat);

  /// Costs what the body and its tokens cost; the paths under /cache wait for the step under way.
  ApiAnswer handle(const ApiRequest& request);

 private:
  struct Prompts {
    std::vector<std::vector<TokenId>> tokens;
    std::vector<std::string> echoes;
  };
  ApiAnswer generate(ApiResult<GenerationRequest> parsed);
  ApiAnswer submit(GenerationRequest request, Prompts prompts,
                   std::shared_ptr<const Grammar> grammar);
  ApiResult<std::shared_ptr<const Grammar>> grammar_of(const GenerationRequest& request) const;
  ApiResult<Prompts> prompts_of(const GenerationRequest& request) const;
  ApiResult<std::vector<TokenId>> chat_prompt(const std::vector<ChatMessage>& messages,
                                              std::string_view arguments, ChatEnd end) const;
  ApiResult<std::vector<TokenId>> conversation_tokens(FieldReader& fields, ChatEnd end) const;
  std::optional<ApiError> check_model(const std::optional<std::string>& name) const;
  std::optional<ApiError> check_prompt(const std::vector<TokenId>& tokens,
                                       const GenerationRequest& request) const;
  std::optional<ApiError> check_request(const GenerationRequest& request) const;
  std::optional<ApiError> check_tools(const GenerationRequest& request) const;
  std::uint32_t max_tokens(const GenerationRequest& request, std::size_t n_prompt) const;
  Request engine_request(const GenerationRequest& request, std::vector<TokenId> prompt) const;
  ReplyPlan reply_plan(const GenerationRequest& request, const Prompts& prompts) const;

  ApiAnswer models(std::string_view path) const;
  ApiAnswer tokenize(const std::string& body) const;
  ApiAnswer detokenize(const std::string& body) const;
  ApiAnswer page() const;
  ApiAnswer cache_view() const;
  ApiAnswer explain(std::string_view query) const;
  ApiAnswer change_cache(const ApiRequest& request) const;
  ApiResult<std::vector<TokenId>> prefix_tokens(FieldReader& fields, bool may_be_all) const;

  const Engine& engine_;
  EngineLoop& loop_;
  Metrics& metrics_;
  const ApiOptions options_;
  const std::optional<ChatTemplate> chat_;
  const std::optional<ToolStyle> tool_style_;  // empty: the template knows no tools
  const std::int64_t started_;
};

HttpReply error_reply(const ApiError& error);
/// What the server says before it has a model; /health too.
HttpReply loading_reply();
inline constexpr std::string_view kHealthPath = "/health";
inline constexpr std::string_view kPagePath = "/";  // the page itself tells nothing
/// Paths whose answer costs next to nothing and waits for nobody: those who watch the server must
/// not queue behind those who use it.
bool is_quick(std::string_view path);

}  // namespace larder
