// What strangers may send: refused with OpenAI's error body, and the server goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/test_server.h"

namespace larder {
namespace {

using testing::HasSubstr;

struct BadBody {
  const char* path;
  std::string body;
  int status;
  const char* param;  // null: none
  const char* says;
};

std::string nested(std::size_t depth) {
  return R"({"prompt":)" + std::string(depth, '[') + std::string(depth, ']') + "}";
}

std::string repeat(const std::string& text, std::size_t n) {
  std::string out;
  for (std::size_t i = 0; i < n; ++i) out += text;
  return out;
}

constexpr const char* kCompletions = "/v1/completions";
constexpr const char* kChat = "/v1/chat/completions";

std::vector<BadBody> bad_json() {
  return {
      {kCompletions, "", 400, nullptr, "not valid JSON"},
      {kCompletions, "{", 400, nullptr, "not valid JSON"},
      {kCompletions, "[1]", 400, nullptr, "must be a JSON object, not a list of 1"},
      {kCompletions, "nonsense", 400, nullptr, "not valid JSON"},
      {kCompletions, R"({"prompt":"a","temperature":NaN})", 400, nullptr, "not valid JSON"},
      {kCompletions, R"({"prompt":"a","temperature":1e999})", 400, nullptr, "not valid JSON"},
      {kCompletions, "{\"prompt\":\"\xff\xfe\"}", 400, nullptr, "UTF-8"},
      {kCompletions, "{\"prompt\":\"\xed\xa0\x80\"}", 400, nullptr, "UTF-8"},
      {kCompletions, R"({"prompt":"\ud800"})", 400, nullptr, "not valid JSON"},
      {kCompletions, nested(10000), 400, nullptr, "nested deeper than 32"},
      {kCompletions, nested(5000000), 400, nullptr, "nested deeper than 32"},
      {kCompletions, R"({"prompt":[)" + repeat("1,", 1100000) + "1]}", 400, nullptr,
       "more than 1048576 values"},
      {kCompletions, "{" + repeat("\"a\":1,", 2048) + R"("prompt":"a"})", 400, nullptr,
       "more than 2048 members"},
      {kChat, std::string("{\"messages\":\0}", 13), 400, nullptr, "not valid JSON"},
  };
}

std::vector<BadBody> bad_fields() {
  return {
      {kCompletions, "{}", 400, "prompt", "is missing"},
      {kCompletions, R"({"prompt":{}})", 400, "prompt", "not an object of 0"},
      {kCompletions, R"({"prompt":[]})", 400, "prompt", "empty list"},
      {kCompletions, R"({"prompt":[[]]})", 400, "prompt", "no tokens"},
      {kCompletions, R"({"prompt":[1,"a"]})", 400, "prompt", "not \"a\""},
      {kCompletions, R"({"prompt":[1,-1]})", 400, "prompt", "not -1"},
      {kCompletions, R"({"prompt":[1,99999999]})", 400, "prompt", "token 99999999"},
      {kCompletions, R"({"prompt":[1,1e300]})", 400, "prompt", "not 1e+300"},
      {kCompletions, R"({"prompt":[1,18446744073709551615]})", 400, "prompt", "not 1844"},
      {kCompletions, R"({"prompt":[)" + repeat("\"a\",", 64) + "\"a\"]}", 400, "prompt",
       "65 prompts"},
      {kCompletions, R"({"prompt":")" + repeat("word ", 2000) + "\"}", 400, "prompt",
       "the context holds 128"},
      {kCompletions, R"({"prompt":"a","n":0})", 400, "n", "from 1 to 128, not 0"},
      {kCompletions, R"({"prompt":"a","n":-1})", 400, "n", "not -1"},
      {kCompletions, R"({"prompt":"a","n":1000000000})", 400, "n", "not 1000000000"},
      {kCompletions, R"({"prompt":"a","n":100})", 400, "n", "runs 4 sequences"},
      {kCompletions, R"({"prompt":"a","n":1.5})", 400, "n", "not 1.5"},
      {kCompletions, R"({"prompt":"a","n":"1"})", 400, "n", "not \"1\""},
      {kCompletions, R"({"prompt":"a","n":true})", 400, "n", "not true"},
      {kCompletions, R"({"prompt":"a","max_tokens":0})", 400, "max_tokens", "not 0"},
      {kCompletions, R"({"prompt":"a","max_tokens":-5})", 400, "max_tokens", "not -5"},
      {kCompletions, R"({"prompt":"a","max_tokens":1e18})", 400, "max_tokens", "not 1e+18"},
      {kCompletions, R"({"prompt":"a","max_tokens":1000000})", 400, "max_tokens", "holds"},
      {kCompletions, R"({"prompt":"a","temperature":-0.1})", 400, "temperature", "from 0 to 2"},
      {kCompletions, R"({"prompt":"a","temperature":"hot"})", 400, "temperature", "not \"hot\""},
      {kCompletions, R"({"prompt":"a","top_p":1.1})", 400, "top_p", "not 1.1"},
      {kCompletions, R"({"prompt":"a","presence_penalty":3})", 400, "presence_penalty", "not 3"},
      {kCompletions, R"({"prompt":"a","seed":0.5})", 400, "seed", "not 0.5"},
      {kCompletions, R"({"prompt":"a","stop":""})", 400, "stop", "1 to 1024 bytes"},
      {kCompletions, R"({"prompt":"a","stop":[1]})", 400, "stop", "not 1"},
      {kCompletions, R"({"prompt":"a","stop":[)" + repeat("\"x\",", 16) + "\"x\"]}", 400, "stop",
       "17 texts"},
      {kCompletions, R"({"prompt":"a","stop":")" + repeat("x", 5000) + "\"}", 400, "stop",
       "a text of 5000 bytes"},
      {kCompletions, R"({"prompt":"a","logit_bias":{"x":1}})", 400, "logit_bias", "\"x\" to 1"},
      {kCompletions, R"({"prompt":"a","logit_bias":{"5":101}})", 400, "logit_bias", "to 101"},
      {kCompletions, R"({"prompt":"a","logit_bias":{"-1":1}})", 400, "logit_bias", "\"-1\""},
      {kCompletions, R"({"prompt":"a","logit_bias":{"2000000":1}})", 400, "logit_bias", "2000000"},
      {kCompletions, R"({"prompt":"a","logit_bias":[1]})", 400, "logit_bias", "an object"},
      {kCompletions, R"({"prompt":"a","logprobs":21})", 400, "logprobs", "not 21"},
      {kCompletions, R"({"prompt":"a","logprobs":2,"echo":true})", 400, "logprobs", "echo"},
      {kCompletions, R"({"prompt":"a","suffix":"b"})", 400, "suffix", "not supported"},
      {kCompletions, R"({"prompt":"a","best_of":3})", 400, "best_of", "beyond 'n'"},
      {kCompletions, R"({"prompt":"a","stream":1})", 400, "stream", "true or false"},
      {kCompletions, R"({"prompt":"a","stream_options":{"include_usage":true}})", 400,
       "stream_options", "needs 'stream'"},
      {kCompletions, R"({"prompt":"a","stream":true,"stream_options":[]})", 400, "stream_options",
       "an object"},
      {kCompletions, R"({"prompt":"a","response_format":{"type":"xml"}})", 400,
       "response_format.type", "must be"},
      {kCompletions, R"({"prompt":"a","response_format":"json_object"})", 400, "response_format",
       "must be an object"},
      {kCompletions, R"({"prompt":"a","response_format":{"type":"json_schema"}})", 400,
       "response_format.json_schema", "must be an object"},
      {kCompletions, R"({"prompt":"a","response_format":{"type":"json_schema","json_schema":{}}})",
       400, "response_format.json_schema.schema", "is missing"},
      {kCompletions,
       R"({"prompt":"a","response_format":{"type":"json_schema","json_schema":{"schema":{
           "type":"string","pattern":"a+"}}}})",
       400, "response_format", "'pattern' is not supported"},
      {kCompletions,
       R"({"prompt":"a","response_format":{"type":"json_schema","json_schema":{"schema":3}}})", 400,
       "response_format", "must be an object"},
      {kCompletions, R"({"prompt":"a","response_format":{"type":"json_object"},"grammar":"x"})",
       400, "grammar", "not supported"},
      {kCompletions, R"({"prompt":"a","guided_regex":"a+"})", 400, "guided_regex", "not supported"},
      {kCompletions, R"({"prompt":"a","cache_salt":5})", 400, "cache_salt", "must be a text"},
      {kCompletions, R"({"prompt":"a","model":"gpt-4"})", 404, "model", "'gpt-4' is not served"},
      {kChat, "{}", 400, "messages", "is missing"},
      {kChat, R"({"messages":[]})", 400, "messages", "a list of 0"},
      {kChat, R"({"messages":"hello"})", 400, "messages", "not \"hello\""},
      {kChat, R"({"messages":["hello"]})", 400, "messages[0]", "must be an object"},
      {kChat, R"({"messages":[{"content":"a"}]})", 400, "messages[0].role", "is missing"},
      {kChat, R"({"messages":[{"role":"user","content":5}]})", 400, "messages[0].content",
       "a text"},
      {kChat, R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})", 400,
       "messages[0].content", "list of parts"},
      {kChat, R"({"messages":[{"role":"user","content":"a"}],"top_logprobs":2})", 400,
       "top_logprobs", "needs 'logprobs'"},
      {kChat, R"({"messages":[{"role":"user","content":"a"}],"chat_template_kwargs":3})", 400,
       "chat_template_kwargs", "an object"},
      {"/tokenize", "{}", 400, "prompt", "is missing"},
      {"/detokenize", R"({"tokens":[-1]})", 400, "tokens", "not -1"},
      {"/detokenize", R"({"tokens":[99999999]})", 400, "tokens", "not 99999999"},
      {"/detokenize", R"({"tokens":"a"})", 400, "tokens", "a list"},
  };
}

/// With tools that are all right, but for what is said.
std::string with_tools(const std::string& more, const std::string& function = R"("name":"f")",
                       const std::string& message = R"("role":"user","content":"a")") {
  return R"({"messages":[{)" + message + R"(}],"tools":[{"type":"function","function":{)" +
         function + "}}]" + more + "}";
}

std::vector<BadBody> bad_tools() {
  const std::string calls = R"("role":"assistant","tool_calls":)", fine = R"("name":"f")";
  return {
      {kChat, with_tools(""), 400, "tools", "chat template leaves them out"},
      {kChat, R"({"messages":[{"role":"user","content":"a"}],"tools":3})", 400, "tools", "a list"},
      {kChat, R"({"messages":[{"role":"user","content":"a"}],"tools":[3]})", 400,
       "tools[0].function.name", "must be 1 to 64"},
      {kChat, R"({"messages":[{"role":"user","content":"a"}],"tools":[{"type":"x"}]})", 400,
       "tools[0].type", "must be"},
      {kChat, with_tools("", R"("name":"a b")"), 400, "tools[0].function.name", "must be 1 to 64"},
      {kChat, with_tools("", R"("name":"f","parameters":[])"), 400, "tools[0].function.parameters",
       "must be a JSON schema"},
      {kChat, with_tools(R"(,"tool_choice":"some")"), 400, "tool_choice", "must be"},
      {kChat, with_tools(R"(,"tool_choice":{"function":{"name":"g"}})"), 400, "tool_choice",
       "none of the tools"},
      {kChat, with_tools(R"(,"tool_choice":{"type":"function"})"), 400, "tool_choice",
       "none of the tools"},
      {kChat, R"({"messages":[{"role":"user","content":"a"}],"tool_choice":"required"})", 400,
       "tool_choice", "there are no tools"},
      {kChat, with_tools(R"(,"response_format":{"type":"json_object"})"), 400, "response_format",
       "cannot be had together"},
      {kChat, with_tools("", fine, calls + "3"), 400, "messages[0].tool_calls", "must be a list"},
      {kChat, with_tools("", fine, calls + "[{}]"), 400, "messages[0].tool_calls", "must have"},
      {kChat, with_tools("", fine, calls + R"([{"function":{"name":"f","arguments":"["}}])"), 400,
       "messages[0].tool_calls", "must have"},
      {kChat, with_tools("", fine, R"("role":"tool","tool_call_id":3)"), 400,
       "messages[0].tool_call_id", "must be a text"},
  };
}

void expect_refused(const TestServer& server, const BadBody& bad) {
  const ApiAnswer answer = server.post(bad.path, bad.body);
  SCOPED_TRACE(bad.body.substr(0, 100));
  ASSERT_FALSE(answer.generation);
  EXPECT_EQ(answer.reply.status, bad.status);
  const Json error = Json::parse(answer.reply.body).at("error");
  EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr(bad.says));
  EXPECT_EQ(error.at("param"), bad.param == nullptr ? Json(nullptr) : Json(bad.param));
  EXPECT_EQ(error.at("type"), bad.status == 404 ? "not_found_error" : "invalid_request_error");
  EXPECT_TRUE(error.contains("code"));
}

TEST(BadRequestTest, JsonIsRefused) {
  const TestServer server;
  for (const BadBody& bad : bad_json()) expect_refused(server, bad);
}

TEST(BadRequestTest, FieldsAreRefusedByNameAndValue) {
  const TestServer server;
  for (const BadBody& bad : bad_fields()) expect_refused(server, bad);
  for (const BadBody& bad : bad_tools()) expect_refused(server, bad);
  server.loop->start();  // and afterwards it answers as ever
  const Json answer = server.complete({{"prompt", "Once"}, {"max_tokens", 3}});
  EXPECT_EQ(answer.at("usage").at("completion_tokens"), 3);
}

TEST(BadRequestTest, PathsAndMethods) {
  const TestServer server;
  const HttpReply page = server.api->handle({"POST", "/", ""}).reply;
  EXPECT_EQ(page.status, 405);
  EXPECT_EQ(page.headers.at(0).second, "GET, HEAD");
  EXPECT_EQ(server.api->handle({"HEAD", "/", ""}).reply.status, 200);
  EXPECT_EQ(server.api->handle({"GET", "/v1/engines", ""}).reply.status, 404);
  const HttpReply reply = server.api->handle({"GET", kCompletions, ""}).reply;
  EXPECT_EQ(reply.status, 405);
  ASSERT_EQ(reply.headers.size(), 1U);
  EXPECT_EQ(reply.headers[0].second, "POST");
  EXPECT_EQ(server.api->handle({"DELETE", "/v1/models/tiny", ""}).reply.status, 405);
  EXPECT_EQ(server.api->handle({"GET", "/v1/models/none", ""}).reply.status, 404);
}

TEST(BadRequestTest, UnknownFieldsAreNamedInAHeader) {
  const TestServer server;
  const ApiAnswer answer = server.post(
      kChat,
      R"({"messages":[{"role":"user","content":"a","name":"b"}],"user":"me","x\r\ny: z":1})");
  ASSERT_TRUE(answer.generation);
  ASSERT_EQ(answer.reply.headers.size(), 1U);
  EXPECT_EQ(answer.reply.headers[0].first, "X-Larder-Ignored");
  EXPECT_EQ(answer.reply.headers[0].second, "messages[0].name, user, x??y??z");
  const ApiAnswer many =
      server.post(kCompletions, R"({"prompt":"a",")" + repeat("k", 100000) + R"(":1})");
  ASSERT_TRUE(many.generation);
  EXPECT_EQ(many.reply.headers.at(0).second, "...");
}

TEST(BadRequestTest, AModelWithoutATemplateHasNoChat) {
  const TestServer server({.n_sequences = 1, .chat_template = nullptr});
  const ApiAnswer answer = server.post(kChat, R"({"messages":[{"role":"user","content":"a"}]})");
  EXPECT_EQ(answer.reply.status, 400);
  EXPECT_THAT(answer.reply.body, HasSubstr("no_chat_template"));
}

TEST(BadRequestTest, AFullQueueSaysWhenToComeBack) {
  const TestServer server({.n_sequences = 1, .limits = {.n_queued = 1}});
  const std::string body = R"({"prompt":"Once","max_tokens":2})";
  const ApiAnswer a = server.post(kCompletions, body), b = server.post(kCompletions, body);
  const ApiAnswer refused = server.post(kCompletions, body);
  EXPECT_EQ(refused.reply.status, 429);
  EXPECT_THAT(refused.reply.body, HasSubstr("rate_limit_error"));
  ASSERT_EQ(refused.reply.headers.size(), 1U);
  EXPECT_EQ(refused.reply.headers[0].first, "Retry-After");
  server.loop->drain();
  EXPECT_EQ(server.post(kCompletions, body).reply.status, 503);
  EXPECT_EQ(server.api->handle({"GET", "/health", ""}).reply.status, 503);
}

TEST(BadRequestTest, MorePromptsThanTheServerTakesAtOnceAreNotAskedToWait) {
  const TestServer server({.n_sequences = 1, .limits = {.n_queued = 1}});
  const ApiAnswer refused = server.post(kCompletions, R"({"prompt":["a","b","c"]})");
  EXPECT_EQ(refused.reply.status, 400);
  EXPECT_EQ(Json::parse(refused.reply.body).at("error").at("param"), "prompt");
  const ApiAnswer embeds = server.post("/v1/embeddings", R"({"input":["a","b","c"]})");
  EXPECT_EQ(Json::parse(embeds.reply.body).at("error").at("param"), "input");
}

}  // namespace
}  // namespace larder
