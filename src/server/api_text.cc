// The small routes of the API: models and tokens.
#include <nlohmann/json.hpp>
#include <utility>

#include "model/config.h"
#include "server/api.h"
#include "server/api_answer.h"
#include "server/generation_fields.h"
#include "server/json_input.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

ApiAnswer Api::models(std::string_view path) const {
  const auto entry = [this](const std::string& name) {
    Json json;
    json["id"] = name;
    json["object"] = "model";
    json["created"] = started_;
    json["owned_by"] = "larder";
    json["max_model_len"] = engine_.options().n_context;
    return json;
  };
  constexpr std::string_view kPrefix = "/v1/models/";
  if (path.starts_with(kPrefix)) {
    const std::string name(path.substr(kPrefix.size()));
    if (const auto error = check_model(name)) return refusal(*error);
    return json_answer(entry(name));
  }
  Json json;
  json["object"] = "list";
  json["data"] = Json::array();
  for (const std::string& name : options_.model_names) json["data"].push_back(entry(name));
  return json_answer(json);
}

/// Of the fields of a chat, as /v1/chat/completions would write them.
ApiResult<std::vector<TokenId>> Api::conversation_tokens(FieldReader& fields, ChatEnd end) const {
  GenerationRequest chat;
  read_conversation(fields, chat);
  if (fields.error()) return refuse(*fields.error());
  if (auto error = check_tools(chat)) return refuse(std::move(*error));
  return chat_prompt(chat.messages, chat.template_arguments, end);
}

/// vLLM's {"prompt": ..., "add_special_tokens": ...} and {"messages": ...}, llama.cpp's
/// {"content": ...}.
ApiAnswer Api::tokenize(const std::string& body) const {
  auto parsed = parse_object(body);
  if (!parsed) return refusal(parsed.error());
  FieldReader fields(*parsed);
  const auto model = fields.text("model", kMaxText);
  const auto prompt = fields.text("prompt", kMaxText);
  const auto content = fields.text("content", kMaxText);
  const auto of_vllm = fields.boolean("add_special_tokens");
  const auto of_llama_cpp = fields.boolean("add_special");
  const bool is_chat = !prompt && !content && fields.any("messages") != nullptr;
  if (!prompt && !content && !is_chat) fields.wrong("prompt", "is missing");
  if (fields.error()) return refusal(*fields.error());
  if (const auto error = check_model(model)) return refusal(*error);
  std::vector<TokenId> tokens;
  if (is_chat) {
    const bool opens = fields.boolean("add_generation_prompt").value_or(true);
    auto written = conversation_tokens(fields, opens ? ChatEnd::answer : ChatEnd::open);
    if (!written) return refusal(written.error());
    tokens = std::move(*written);
  } else {
    EncodeOptions options;
    options.add_special = of_vllm.value_or(of_llama_cpp.value_or(prompt.has_value()));
    tokens = engine_.tokenizer().encode(prompt ? *prompt : *content, options);
  }
  Json json;
  json["count"] = tokens.size();
  json["max_model_len"] = engine_.options().n_context;
  json["tokens"] = tokens;
  return json_answer(json);
}

ApiAnswer Api::detokenize(const std::string& body) const {
  auto parsed = parse_object(body);
  if (!parsed) return refusal(parsed.error());
  FieldReader fields(*parsed);
  const auto model = fields.text("model", kMaxText);
  const Json* list = fields.any("tokens");
  std::vector<TokenId> tokens;
  if (list == nullptr) {
    fields.wrong("tokens", "must be a list of token ids");
  } else {
    tokens = read_token_ids(fields, "tokens", *list, engine_.config().n_vocab);
  }
  if (fields.error()) return refusal(*fields.error());
  if (const auto error = check_model(model)) return refusal(*error);
  const std::string text = engine_.tokenizer().decode(tokens, false);
  Json json;
  json["prompt"] = text;   // vLLM's name
  json["content"] = text;  // llama.cpp's
  return json_answer(json);
}

}  // namespace larder
