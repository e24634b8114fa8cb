// Tools: told to the model, called by it, found in what it writes.
#include "server/tool_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "server/test_server.h"

namespace larder {
namespace {

using testing::HasSubstr;

constexpr const char* kTagged =
    "{% for t in tools or [] %}{{ t.function.name }};{% endfor %}"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{\"name\": \"{{ c.function.name }}\", "
    "\"arguments\": {{ c.function.arguments | tojson }}}</tool_call>{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}";
constexpr const char* kBare =
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}{{ m.role }}: "
    "{% if m.tool_calls %}{\"name\": \"{{ m.tool_calls[0].function.name }}\", "
    "\"parameters\": {{ m.tool_calls[0].function.arguments | tojson }}}"
    "{% else %}{{ m.content }}{% endif %}\n{% endfor %}";

std::optional<ToolStyle> style_of(const char* source) {
  return find_tool_style(*ChatTemplate::parse(source));
}

TEST(ToolStyle, IsFoundInWhatTheTemplateWrites) {
  const auto tagged = style_of(kTagged);
  ASSERT_TRUE(tagged);
  EXPECT_TRUE(tagged->tagged);
  EXPECT_EQ(tagged->arguments_key, "arguments");
  const auto bare = style_of(kBare);
  ASSERT_TRUE(bare);
  EXPECT_FALSE(bare->tagged);
  EXPECT_EQ(bare->arguments_key, "parameters");
  EXPECT_FALSE(style_of(kTestTemplate));
  EXPECT_FALSE(style_of("{{ tools | tojson }}{% for m in messages %}{{ m.content }}{% endfor %}"));
  EXPECT_FALSE(style_of(
      "{{ tools | tojson }}{% for m in messages %}{% if m.tool_calls %}[TOOL_CALLS] [{\"name\": "
      "\"{{ m.tool_calls[0].function.name }}\", \"arguments\": {}}]{% endif %}{% endfor %}"));
}

std::optional<ToolStyle> style_of_file(const std::string& name) {
  std::ifstream file(std::string(LARDER_TEST_DATA) + "/chat/templates/" + name);
  const std::string source{std::istreambuf_iterator<char>(file), {}};
  EXPECT_FALSE(source.empty()) << name;
  return style_of(source.c_str());
}

TEST(ToolStyle, OfTheTemplatesOfFamilies) {
  const auto qwen = style_of_file("qwen2_tools.jinja");
  ASSERT_TRUE(qwen);
  EXPECT_TRUE(qwen->tagged);
  const auto llama = style_of_file("llama3_tools.jinja");
  ASSERT_TRUE(llama);
  EXPECT_FALSE(llama->tagged);
  EXPECT_EQ(llama->arguments_key, "parameters");
  for (const char* name : {"chatml.jinja", "gemma2.jinja", "llama2.jinja", "mistral_tools.jinja"}) {
    EXPECT_FALSE(style_of_file(name)) << name;
  }
}

/// The same whatever pieces the text comes in.
ToolCallReader::Piece read(const ToolStyle& style, const std::string& text) {
  ToolCallReader::Piece first;
  for (std::size_t n = 1; n <= text.size() + 1; ++n) {
    ToolCallReader reader(style, {"f", "g"});
    ToolCallReader::Piece all;
    for (std::size_t at = 0; at < text.size() || at == 0; at += n) {
      auto piece = reader.push(text.substr(std::min(at, text.size()), n), at + n >= text.size());
      all.text += piece.text;
      for (auto& call : piece.calls) all.calls.push_back(call);
    }
    if (n == 1) first = all;
    EXPECT_EQ(all.text, first.text) << "in pieces of " << n;
    EXPECT_EQ(all.calls.size(), first.calls.size()) << "in pieces of " << n;
  }
  return first;
}

TEST(ToolCallReader, Tagged) {
  const ToolStyle style;
  auto piece = read(style,
                    "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": "
                    "[1, \"<x>\"]}}\n</tool_call>\n<tool_call>{\"name\":\"g\",\"arguments\":"
                    "{}}</tool_call>\n");
  EXPECT_EQ(piece.text, "Let me see.\n");
  ASSERT_EQ(piece.calls.size(), 2U);
  EXPECT_EQ(piece.calls[0].name, "f");
  EXPECT_EQ(Json::parse(piece.calls[0].arguments), Json::parse(R"({"a":[1,"<x>"]})"));
  EXPECT_EQ(piece.calls[1].name, "g");
  EXPECT_EQ(read(style, "a < b <tool").text, "a < b <tool");
  EXPECT_EQ(read(style, "").text, "");
  EXPECT_EQ(read(style, "<tool_call>{\"name\":\"f\",\"arguments\":{}}").calls.size(), 1U);
  EXPECT_EQ(read(style, "<tool_call>{\"name\":").text, "<tool_call>{\"name\":");
  EXPECT_EQ(read(style, "<tool_call>no</tool_call> x").text, "<tool_call>no</tool_call> x");
  const std::string deep = "<tool_call>" + std::string(200, '[') + "</tool_call>";
  EXPECT_EQ(read(style, deep).text, deep);
}

TEST(ToolCallReader, Bare) {
  const ToolStyle style{false, "parameters"};
  auto piece = read(style, R"(  {"name": "f", "parameters": {"a": "x;y"}})");
  EXPECT_EQ(piece.text, "");
  ASSERT_EQ(piece.calls.size(), 1U);
  EXPECT_EQ(Json::parse(piece.calls[0].arguments), Json::parse(R"({"a":"x;y"})"));
  const char* two = R"({"name":"f","parameters":{}}; {"name":"g","parameters":{}})";
  EXPECT_EQ(read(style, two).calls.size(), 2U);
  for (const char* text : {"Hello", R"({"name":"h","parameters":{}})", R"({"name":"f"})", "{", "",
                           R"({"a":1})", R"(So: {"name":"f","parameters":{}})"}) {
    piece = read(style, text);
    EXPECT_EQ(piece.text, text);
    EXPECT_TRUE(piece.calls.empty());
  }
}

Json tool(const std::string& name, const Json& parameters) {
  return {{"type", "function"}, {"function", {{"name", name}, {"parameters", parameters}}}};
}

class ToolApiTest : public testing::TestWithParam<const char*> {
 protected:
  ToolApiTest() : server_({.n_context = 1024, .chat_template = GetParam()}) {}
  void SetUp() override { server_.loop->start(); }
  Json body() const {
    const Json number = Json::parse(R"({"type":"object","properties":{"n":{"$ref":"#/$defs/d"}},
        "required":["n"],"additionalProperties":false,"$defs":{"d":{"enum":[1,22]}}})");
    Json json;
    json["messages"] = Json::array({{{"role", "user"}, {"content", "Go"}}});
    json["tools"] = Json::array({tool("f", number), tool("go_on", nullptr)});
    json["temperature"] = 1.2;
    json["seed"] = 3;
    return json;
  }
  const TestServer server_;
};
INSTANTIATE_TEST_SUITE_P(Styles, ToolApiTest, testing::Values(kTagged, kBare));

TEST_P(ToolApiTest, RequiredAndNamed) {
  Json wanted = body();
  wanted["tool_choice"] = "required";
  std::size_t n_first = 0;
  for (int seed = 0; seed < 8; ++seed) {
    wanted["seed"] = seed;
    const Json choice = server_.chat(wanted).at("choices").at(0);
    EXPECT_EQ(choice.at("finish_reason"), "tool_calls");
    EXPECT_EQ(choice.at("message").at("content"), nullptr);
    const Json& call = choice.at("message").at("tool_calls").at(0);
    EXPECT_EQ(call.at("type"), "function");
    EXPECT_THAT(call.at("id").get<std::string>(), HasSubstr("call_"));
    const Json arguments = Json::parse(call.at("function").at("arguments").get<std::string>());
    if (call.at("function").at("name") == "f") {
      ++n_first;
      EXPECT_THAT(arguments.at("n").get<int>(), testing::AnyOf(1, 22));
    } else {
      EXPECT_TRUE(arguments.empty());
    }
  }
  wanted["tool_choice"] = {{"type", "function"}, {"function", {{"name", "f"}}}};
  const Json choice = server_.chat(wanted).at("choices").at(0);
  EXPECT_EQ(choice.at("message").at("tool_calls").at(0).at("function").at("name"), "f");
}

TEST_P(ToolApiTest, ArgumentsAreAnObjectWhereTheSchemaIsOpen) {
  Json wanted = body();
  wanted["tools"] = Json::array({tool("f", {{"description", "anything"}})});
  wanted["tool_choice"] = "required";
  wanted["max_tokens"] = 400;
  for (int seed = 0; seed < 4; ++seed) {
    wanted["seed"] = seed;
    const Json choice = server_.chat(wanted).at("choices").at(0);
    if (choice.at("finish_reason") == "length") continue;
    const Json& function = choice.at("message").at("tool_calls").at(0).at("function");
    EXPECT_TRUE(Json::parse(function.at("arguments").get<std::string>()).is_object());
  }
}

TEST_P(ToolApiTest, AStreamSaysTheSame) {
  Json wanted = body();
  wanted["tool_choice"] = "required";
  const Json whole = server_.chat(wanted).at("choices").at(0).at("message").at("tool_calls").at(0);
  wanted["stream"] = true;
  const ApiAnswer answer = server_.post("/v1/chat/completions", wanted.dump());
  ASSERT_TRUE(answer.generation);
  std::vector<Json> calls;
  std::string reason;
  for (const Json& chunk : chunks_of(TestServer::drive(*answer.generation))) {
    const Json& choice = chunk.at("choices").at(0);
    EXPECT_EQ(choice.at("delta").value("content", ""), "");
    for (const Json& call : choice.at("delta").value("tool_calls", Json::array())) {
      calls.push_back(call);
    }
    if (choice.at("finish_reason").is_string()) reason = choice.at("finish_reason");
  }
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].at("index"), 0);
  EXPECT_EQ(calls[0].at("function"), whole.at("function"));
  EXPECT_EQ(reason, "tool_calls");
}

TEST_P(ToolApiTest, WithoutACallThereIsText) {
  Json wanted = body();
  wanted["temperature"] = 0;
  wanted["max_tokens"] = 5;
  const Json choice = server_.chat(wanted).at("choices").at(0);
  EXPECT_FALSE(choice.at("message").contains("tool_calls"));
  EXPECT_FALSE(choice.at("message").at("content").get<std::string>().empty());
  EXPECT_EQ(choice.at("finish_reason"), "length");
  // "none": the model does not even hear of them.
  const auto n_prompt = [this](const Json& json) {
    return server_.chat(json).at("usage").at("prompt_tokens").get<int>();
  };
  Json none = wanted, plain = wanted;
  none["tool_choice"] = "none";
  plain.erase("tools");
  EXPECT_EQ(n_prompt(none), n_prompt(plain));
  EXPECT_GT(n_prompt(wanted), n_prompt(plain));
}

TEST_P(ToolApiTest, CallsAndResultsReachTheTemplate) {
  Json wanted = body();
  wanted["max_tokens"] = 1;
  wanted["messages"].push_back(Json::parse(R"({"role":"assistant","content":null,"tool_calls":[
      {"id":"c1","type":"function","function":{"name":"f","arguments":"{\"n\": 22}"}}]})"));
  wanted["messages"].push_back({{"role", "tool"}, {"tool_call_id", "c1"}, {"content", "fine"}});
  const int with = server_.chat(wanted).at("usage").at("prompt_tokens");
  wanted["messages"][1]["tool_calls"][0]["function"]["arguments"] = "{\"n\": 22, \"m\": 22}";
  EXPECT_GT(server_.chat(wanted).at("usage").at("prompt_tokens"), with);
}

TEST_P(ToolApiTest, SchemasAreChecked) {
  Json wanted = body();
  wanted["tools"].push_back(tool("h", Json::parse(R"({"type":"string","pattern":"a"})")));
  wanted["tool_choice"] = "required";
  const ApiAnswer answer = server_.post("/v1/chat/completions", wanted.dump());
  EXPECT_EQ(answer.reply.status, 400);
  EXPECT_THAT(answer.reply.body, HasSubstr("'pattern' is not supported"));
}

}  // namespace
}  // namespace larder
