// response_format: what comes back is what the schema says, whole and streamed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/test_server.h"

namespace larder {
namespace {

class StructuredApiTest : public testing::Test {
 protected:
  void SetUp() override { server_.loop->start(); }
  const TestServer server_;
};

Json format_of(const Json& schema) {
  return {{"type", "json_schema"}, {"json_schema", {{"name", "x"}, {"schema", schema}}}};
}

const Json kPerson = Json::parse(R"({"type":"object","additionalProperties":false,
    "properties":{"name":{"type":"string","maxLength":10},"old":{"type":"boolean"}},
    "required":["name","old"]})");

TEST_F(StructuredApiTest, ASchemaInAChat) {
  Json body = {{"messages", Json::array({{{"role", "user"}, {"content", "Who?"}}})},
               {"response_format", format_of(kPerson)},
               {"temperature", 1.2},
               {"seed", 4}};
  const Json whole = server_.chat(body);
  const Json& choice = whole.at("choices").at(0);
  EXPECT_EQ(choice.at("finish_reason"), "stop");
  const std::string content = choice.at("message").at("content");
  const Json person = Json::parse(content);
  EXPECT_TRUE(person.at("name").is_string());
  EXPECT_TRUE(person.at("old").is_boolean());
  EXPECT_EQ(person.size(), 2U);
  body["stream"] = true;
  const ApiAnswer answer = server_.post("/v1/chat/completions", body.dump());
  ASSERT_TRUE(answer.generation);
  std::string streamed;
  for (const Json& chunk : chunks_of(TestServer::drive(*answer.generation))) {
    streamed += chunk.at("choices").at(0).at("delta").value("content", "");
  }
  EXPECT_EQ(streamed, content);
}

TEST_F(StructuredApiTest, AnyObject) {
  for (const Json& format :
       {Json{{"type", "json_object"}}, Json{{"type", "json_object"}, {"schema", kPerson}}}) {
    const Json whole = server_.complete({{"prompt", "Once"},
                                         {"response_format", format},
                                         {"temperature", 1},
                                         {"seed", 1},
                                         {"max_tokens", 100}});
    const Json& choice = whole.at("choices").at(0);
    const Json value = Json::parse(choice.at("text").get<std::string>(), nullptr, false);
    if (format.contains("schema")) {
      EXPECT_EQ(value.size(), 2U) << choice;
    } else {
      EXPECT_TRUE(choice.at("finish_reason") == "length" || value.is_object()) << choice;
    }
  }
}

TEST_F(StructuredApiTest, CutOffByMaxTokens) {
  const Json whole = server_.complete(
      {{"prompt", "Once"}, {"response_format", format_of(kPerson)}, {"max_tokens", 3}});
  EXPECT_EQ(whole.at("choices").at(0).at("finish_reason"), "length");
  EXPECT_EQ(whole.at("usage").at("completion_tokens"), 3);
}

TEST_F(StructuredApiTest, PlainTextIsStillPlain) {
  const Json plain = server_.complete({{"prompt", "Once upon"}, {"max_tokens", 8}});
  const Json same = server_.complete(
      {{"prompt", "Once upon"}, {"max_tokens", 8}, {"response_format", {{"type", "text"}}}});
  EXPECT_EQ(plain.at("choices"), same.at("choices"));
}

}  // namespace
}  // namespace larder
