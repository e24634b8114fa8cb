// The body of /v1/chat/completions: messages and tools.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "server/generation_fields.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxMessages = 4096;
constexpr std::size_t kMaxTools = 128;
constexpr std::size_t kMaxCalls = 128;  // of one message

/// OpenAI's rule for names of functions.
bool is_tool_name(const Json& name) {
  if (!name.is_string()) return false;
  const auto& text = name.get_ref<const std::string&>();
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '-';
  });
}

/// A text, or a list of parts of which each is a text.
std::string read_content(FieldReader& fields) {
  const Json* value = fields.any("content");
  if (value == nullptr) return "";
  if (!value->is_array()) return fields.text("content", kMaxText).value_or("");
  std::string text;
  for (const Json& part : *value) {
    if (!part.is_object() || part.value("type", Json()) != "text" ||
        !part.value("text", Json()).is_string()) {
      fields.wrong("content",
                   "must be a text or a list of parts {\"type\": \"text\", \"text\": ...}");
      return "";
    }
    text += part["text"].get_ref<const std::string&>();
  }
  return text;
}

/// Calls as templates want them: the arguments as an object, not as its text.
Json read_calls(FieldReader& fields, const Json& list) {
  Json calls = Json::array();
  if (!list.is_array() || list.size() > kMaxCalls) {
    fields.wrong("tool_calls",
                 fmt::format("must be a list of at most {}, not {}", kMaxCalls, shown(list)));
    return calls;
  }
  for (const Json& entry : list) {
    const Json function =
        entry.is_object() ? entry.value("function", Json::object()) : Json::object();
    const bool is_named = function.is_object() && is_tool_name(function.value("name", Json()));
    Json arguments = is_named ? function.value("arguments", Json("{}")) : Json();
    if (arguments.is_string()) {
      auto parsed = parse_object(arguments.get_ref<const std::string&>());
      arguments = parsed ? std::move(*parsed) : Json();
    }
    if (!arguments.is_object()) {
      fields.wrong("tool_calls",
                   "must have {\"function\": {\"name\", \"arguments\"}}, the arguments as the text "
                   "of a JSON object");
      return calls;
    }
    Json call;
    call["id"] = entry.value("id", Json(""));
    call["type"] = "function";
    call["function"]["name"] = function["name"];
    call["function"]["arguments"] = std::move(arguments);
    calls.push_back(std::move(call));
  }
  return calls;
}

/// What templates may want of a message besides role and content, as JSON; or empty.
std::string read_more(FieldReader& message, bool is_result) {
  Json more = Json::object();
  if (const Json* calls = message.any("tool_calls")) {
    more["tool_calls"] = read_calls(message, *calls);
  }
  for (const char* name : {"tool_call_id", "name"}) {
    if (!is_result) break;  // of a tool
    if (const auto text = message.text(name, kMaxNameBytes)) more[name] = *text;
  }
  return more.empty() ? "" : more.dump();
}

void read_messages(FieldReader& fields, GenerationRequest& request) {
  const Json* list = fields.any("messages");
  if (list == nullptr) return fields.wrong("messages", "is missing");
  if (!list->is_array() || list->empty() || list->size() > kMaxMessages) {
    return fields.wrong("messages", fmt::format("must be a list of 1 to {} messages, not {}",
                                                kMaxMessages, shown(*list)));
  }
  for (std::size_t i = 0; i < list->size(); ++i) {
    const Json& entry = (*list)[i];
    const std::string name = fmt::format("messages[{}]", i);
    if (!entry.is_object()) {
      return fields.wrong(name, fmt::format("must be an object, not {}", shown(entry)));
    }
    FieldReader message(entry, name + ".");
    const auto role = message.text("role", 64);
    if (!role) message.wrong("role", "is missing");
    request.messages.push_back(
        {role.value_or(""), read_content(message), read_more(message, role == "tool")});
    fields.adopt(message);
    if (fields.error()) return;
    for (std::string& unread : message.unread()) request.ignored.push_back(std::move(unread));
  }
}

/// The tools, checked. Null, and the error set, when one is none.
Json read_tool_list(FieldReader& fields, const Json& list) {
  Json tools = Json::array();
  if (!list.is_array() || list.size() > kMaxTools) {
    fields.wrong("tools",
                 fmt::format("must be a list of at most {}, not {}", kMaxTools, shown(list)));
    return nullptr;
  }
  std::set<std::string> names;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::string place = fmt::format("tools[{}]", i);
    const Json function =
        list[i].is_object() ? list[i].value("function", Json::object()) : Json::object();
    if (list[i].is_object() && list[i].value("type", Json()) != "function") {
      fields.wrong(place + ".type", "must be \"function\"");
    } else if (!function.is_object() || !is_tool_name(function.value("name", Json()))) {
      fields.wrong(place + ".function.name", "must be 1 to 64 letters, digits, '_' or '-'");
    } else if (const Json schema = function.value("parameters", Json::object());
               !schema.is_object() && !schema.is_null()) {
      fields.wrong(place + ".function.parameters",
                   fmt::format("must be a JSON schema, not {}", shown(schema)));
    } else if (!names.insert(function["name"].get<std::string>()).second) {
      fields.wrong(place + ".function.name", "is the name of another tool, too");
    }
    if (fields.error()) return nullptr;
    tools.push_back(list[i]);
  }
  return tools;
}

/// Keeps the tools that may be called: all of them, the one that `tool_choice` names, or none.
void choose_tools(FieldReader& fields, const Json& tools, GenerationRequest& request) {
  const Json* choice = fields.any("tool_choice");
  request.tool_choice = tools.empty() ? ToolChoice::none : ToolChoice::automatic;
  Json callable = tools;
  if (choice != nullptr && choice->is_object()) {
    const Json function = choice->value("function", Json::object());
    const Json name = function.is_object() ? function.value("name", Json()) : Json();
    std::erase_if(callable.get_ref<Json::array_t&>(),
                  [&](const Json& tool) { return tool["function"]["name"] != name; });
    request.tool_choice = ToolChoice::required;
    if (callable.empty()) {
      return fields.wrong("tool_choice",
                          fmt::format("names {}, which is none of the tools", shown(name)));
    }
  } else if (choice != nullptr && *choice == "none") {
    request.tool_choice = ToolChoice::none;
  } else if (choice != nullptr && *choice == "required") {
    request.tool_choice = ToolChoice::required;
    if (tools.empty())
      return fields.wrong("tool_choice", "is \"required\", but there are no tools");
  } else if (choice != nullptr && *choice != "auto") {
    return fields.wrong(
        "tool_choice",
        fmt::format("must be \"none\", \"auto\", \"required\" or name a function, not {}",
                    shown(*choice)));
  }
  if (request.tool_choice != ToolChoice::none) request.tools = callable.dump();
}

void read_tools(FieldReader& fields, GenerationRequest& request) {
  request.one_call = !fields.boolean("parallel_tool_calls").value_or(true);
  const Json* given = fields.any("tools");
  const Json tools = given == nullptr ? Json::array() : read_tool_list(fields, *given);
  if (fields.error()) return;
  choose_tools(fields, tools, request);
  if (request.tool_choice == ToolChoice::none) return;
  if (request.schema) {
    return fields.wrong("response_format", "and 'tools' cannot be had together", "unsupported");
  }
  Json arguments = Json::object();
  arguments["tools"] = tools;  // the template shows all of them
  request.template_arguments = arguments.dump();
}

void read_template_arguments(FieldReader& fields, GenerationRequest& request) {
  const Json* given = fields.any("chat_template_kwargs");
  if (given == nullptr) return;
  if (!given->is_object()) {
    return fields.wrong("chat_template_kwargs",
                        fmt::format("must be an object, not {}", shown(*given)));
  }
  Json arguments = *given;
  if (!request.template_arguments.empty()) {
    arguments.update(Json::parse(request.template_arguments));
  }
  request.template_arguments = arguments.dump();
}

}  // namespace

void read_conversation(FieldReader& fields, GenerationRequest& request) {
  request.chat = true;
  read_messages(fields, request);
  read_tools(fields, request);
  read_template_arguments(fields, request);
}

ApiResult<GenerationRequest> parse_chat_request(std::string_view body) {
  auto json = parse_object(body);
  if (!json) return refuse(std::move(json).error());
  FieldReader fields(*json);
  GenerationRequest request;
  read_shared_fields(fields, request);
  read_conversation(fields, request);
  const auto old_name = fields.integer("max_tokens", 1, kMaxId);
  const auto max_tokens = fields.integer("max_completion_tokens", 1, kMaxId);
  if (max_tokens || old_name) {
    request.max_tokens = static_cast<std::uint32_t>(max_tokens ? *max_tokens : *old_name);
  }
  const bool logprobs = fields.boolean("logprobs").value_or(false);
  const auto n_top = fields.integer("top_logprobs", 0, kMaxTopLogprobs);
  if (n_top && !logprobs) fields.wrong("top_logprobs", "needs 'logprobs': true");
  if (logprobs) request.n_logprobs = static_cast<std::int32_t>(n_top.value_or(0));
  for (const char* name : {"functions", "function_call"}) {
    fields.unsupported(name, "'tools' has taken its place");
  }
  fields.unsupported("audio", "this server generates text");
  return finish_request(fields, std::move(request));
}

}  // namespace larder
