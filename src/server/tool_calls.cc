#include "server/tool_calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/json_shape.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kOpen = "<tool_call>", kClose = "</tool_call>";
constexpr std::string_view kSpaces = " \t\r\n";
constexpr std::size_t kMaxDepth = 64;
/// Keywords of a schema that say of which kind a value is.
constexpr std::array kDeciding = {"type", "$ref", "anyOf", "enum", "const"};

/// The template's text, or nothing when it refuses the conversation.
std::string written(const ChatTemplate& chat, const Json& messages, const Json& tools) {
  Json context;
  context["messages"] = messages;
  if (!tools.is_null()) context["tools"] = tools;
  context["add_generation_prompt"] = false;
  context["bos_token"] = context["eos_token"] = "";
  return chat.render(context).value_or("");
}

/// An object with a name and arguments, as a call.
std::optional<ToolCall> to_call(const Json& json) {
  if (!json.is_object() || !json.contains("name") || !json["name"].is_string()) return std::nullopt;
  const auto name = json["name"].get<std::string>();
  for (const char* key : {"arguments", "parameters"}) {
    if (!json.contains(key)) continue;
    const Json& arguments = json[key];
    if (arguments.is_object()) return ToolCall{name, arguments.dump()};
    if (arguments.is_string())
      return ToolCall{name, arguments.get<std::string>()};  // encoded twice
  }
  return std::nullopt;
}

std::optional<ToolCall> parse_call(std::string_view text) {
  if (measure_json(text).depth > kMaxDepth) return std::nullopt;
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return to_call(json);
}

/// How much of the end of `text` may be the beginning of `tag`.
std::size_t begun(std::string_view text, std::string_view tag) {
  std::size_t n = std::min(text.size(), tag.size() - 1);
  while (n > 0 && text.substr(text.size() - n) != tag.substr(0, n)) --n;
  return n;
}

/// Places in a schema that moves to `place`: "#/$defs/x" becomes "#/place/$defs/x".
void move_references(Json& schema, const std::string& place) {
  if (schema.is_array()) {
    for (Json& element : schema) move_references(element, place);
  } else if (schema.is_object()) {
    for (auto it = schema.begin(); it != schema.end(); ++it) {
      if (it.key() == "enum" || it.key() == "const") continue;  // values
      if (it.key() == "$ref" && it->is_string()) {
        const auto target = it->get<std::string>();
        if (target.starts_with('#')) *it = place + target.substr(1);
      } else {
        move_references(*it, place);
      }
    }
  }
}

}  // namespace

std::optional<ToolStyle> find_tool_style(const ChatTemplate& chat) {
  const Json tools = Json::parse(R"([{"type":"function","function":{"name":"listed_tool",
      "description":"d","parameters":{"type":"object","properties":{}}}}])");
  const Json question = Json::parse(R"([{"role":"user","content":"q"}])");
  if (written(chat, question, tools).find("listed_tool") == std::string::npos) return std::nullopt;
  Json conversation = question;
  conversation.push_back(Json::parse(R"({"role":"assistant","content":"","tool_calls":[
      {"id":"call00001","type":"function","function":{"name":"called_tool","arguments":{"x":1}}}]})"));
  const std::string text = written(chat, conversation, tools);
  const std::size_t name = text.rfind("called_tool");
  if (name == std::string::npos) return std::nullopt;
  const std::size_t open = text.rfind(kOpen, name);
  if (open != std::string::npos && text.find(kClose, name) != std::string::npos) return ToolStyle{};
  const std::size_t object = text.rfind("{", name);
  if (object == std::string::npos || text.find('[', object) < name) return std::nullopt;
  // Mistral's list of calls begins with a bracket, and is not understood here.
  const std::size_t before = text.find_last_not_of(kSpaces, object == 0 ? 0 : object - 1);
  if (object > 0 && before != std::string::npos && text[before] == '[') return std::nullopt;
  for (const char* key : {"parameters", "arguments"}) {
    const std::string quoted = std::string("\"") + key + "\"";
    if (text.find(quoted, name) != std::string::npos) return ToolStyle{false, key};
  }
  return std::nullopt;
}

ToolCallFormat tool_call_format(const Json& tools, const ToolStyle& style) {
  Json alternatives = Json::array();
  for (const Json& tool : tools) {
    const Json& function = tool["function"];
    const std::string place =
        fmt::format("#/anyOf/{}/properties/{}", alternatives.size(), style.arguments_key);
    Json parameters = {
        {"type", "object"}, {"properties", Json::object()}, {"additionalProperties", false}};
    if (function.contains("parameters") && !function["parameters"].is_null()) {
      parameters = function["parameters"];
      move_references(parameters, place);
      // Arguments are an object, also where the schema leaves that open.
      const bool is_open = std::none_of(kDeciding.begin(), kDeciding.end(), [&](const char* word) {
        return parameters.contains(word);
      });
      if (is_open) parameters["type"] = "object";
    }
    Json call;
    call["type"] = "object";
    call["properties"]["name"]["const"] = function["name"];
    call["properties"][style.arguments_key] = std::move(parameters);
    call["required"] = Json::array({"name", style.arguments_key});
    call["additionalProperties"] = false;
    alternatives.push_back(std::move(call));
  }
  Json schema;
  schema["anyOf"] = std::move(alternatives);
  if (!style.tagged) return {schema.dump(), "", ""};
  return {schema.dump(), fmt::format("{}\n", kOpen), fmt::format("\n{}", kClose)};
}

ToolCallReader::ToolCallReader(ToolStyle style, std::vector<std::string> names)
    : style_(std::move(style)), names_(std::move(names)) {}

ToolCallReader::Piece ToolCallReader::push(std::string_view text, bool last) {
  Piece piece;
  held_ += text;
  if (style_.tagged) {
    read_tagged(piece, last);
  } else {
    read_bare(piece, last);
  }
  return piece;
}

void ToolCallReader::read_tagged(Piece& piece, bool last) {
  for (;;) {
    if (after_call_) {
      held_.erase(0, std::min(held_.find_first_not_of(kSpaces), held_.size()));
      after_call_ = held_.empty();
    }
    const std::size_t tag = held_.find(inside_ ? kClose : kOpen);
    if (!inside_) {
      const std::size_t n_text = tag != std::string::npos ? tag
                                 : last                   ? held_.size()
                                                          : held_.size() - begun(held_, kOpen);
      piece.text += held_.substr(0, n_text);
      held_.erase(0, n_text);
      if (tag == std::string::npos) return;
      held_.erase(0, kOpen.size());
      inside_ = true;
      continue;
    }
    if (tag == std::string::npos && !last) return;
    // A model that ends its answer within the tags has called, if what is there is whole.
    const std::string body = held_.substr(0, tag);
    if (auto call = parse_call(body)) {
      piece.calls.push_back(std::move(*call));
      after_call_ = true;
    } else {
      piece.text += std::string(kOpen) + body;
      if (tag != std::string::npos) piece.text += kClose;
    }
    held_.erase(0, tag == std::string::npos ? tag : tag + kClose.size());
    inside_ = false;
    if (tag == std::string::npos) return;
  }
}

/// Whether what is held is, so far, an object; white space may stand before it.
bool ToolCallReader::begins_a_call() const {
  const std::size_t first = held_.find_first_not_of(kSpaces);
  return first == std::string::npos || held_[first] == '{';
}

void ToolCallReader::read_bare(Piece& piece, bool last) {
  is_text_ = is_text_ || !begins_a_call();
  if (!is_text_ && !last) return;
  if (!is_text_) {
    if (auto calls = bare_calls()) {
      piece.calls = std::move(*calls);
      held_.clear();
      return;
    }
  }
  piece.text = std::exchange(held_, {});
}

/// One object, or several with ';' between them.
std::optional<std::vector<ToolCall>> ToolCallReader::bare_calls() const {
  std::vector<ToolCall> calls;
  std::string_view rest = held_;
  while (!rest.empty()) {
    // A ';' may stand in a text: the shortest beginning that is a call counts.
    std::optional<ToolCall> call;
    std::size_t end = 0;
    for (int n_tries = 0; !call && end < rest.size() && n_tries < 16; ++n_tries) {
      end = std::min(rest.find(';', end == 0 ? 0 : end + 1), rest.size());
      call = parse_call(rest.substr(0, end));
    }
    if (!call || std::find(names_.begin(), names_.end(), call->name) == names_.end()) {
      return std::nullopt;
    }
    calls.push_back(std::move(*call));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (rest.find_first_not_of(kSpaces) == std::string_view::npos) break;
  }
  if (calls.empty()) return std::nullopt;
  return calls;
}

}  // namespace larder
