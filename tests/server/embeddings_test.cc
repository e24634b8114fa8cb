// /v1/embeddings: vectors for texts and tokens, as numbers and as text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "server/test_server.h"

namespace larder {
namespace {

using testing::HasSubstr;

class EmbeddingsTest : public testing::Test {
 protected:
  void SetUp() override { server_.loop->start(); }
  Json embed(const Json& body) const {
    return server_.finish(server_.post("/v1/embeddings", body.dump()));
  }
  std::string refusal(const Json& body) const {
    const ApiAnswer answer = server_.post("/v1/embeddings", body.dump());
    EXPECT_EQ(answer.reply.status, 400);
    return answer.reply.body;
  }
  const TestServer server_;
};

TEST_F(EmbeddingsTest, OfTextsAndTokens) {
  const auto tokens = server_.engine->tokenizer().encode("Once upon", {});
  const Json answer =
      embed({{"model", "tiny"}, {"input", Json::array({"Once upon", tokens, "A"})}});
  EXPECT_EQ(answer.at("object"), "list");
  EXPECT_EQ(answer.at("model"), "tiny");
  ASSERT_EQ(answer.at("data").size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    const Json& entry = answer.at("data").at(i);
    EXPECT_EQ(entry.at("object"), "embedding");
    EXPECT_EQ(entry.at("index"), i);
    double length = 0;
    for (const double x : entry.at("embedding")) length += x * x;
    EXPECT_NEAR(length, 1, 1e-5);
    EXPECT_EQ(entry.at("embedding").size(), server_.engine->config().n_embd);
  }
  EXPECT_EQ(answer.at("data").at(0).at("embedding"), answer.at("data").at(1).at("embedding"));
  EXPECT_NE(answer.at("data").at(0).at("embedding"), answer.at("data").at(2).at("embedding"));
  EXPECT_EQ(answer.at("usage").at("prompt_tokens"), answer.at("usage").at("total_tokens"));
  EXPECT_FALSE(answer.at("usage").contains("completion_tokens"));
}

TEST_F(EmbeddingsTest, InBase64) {
  const Json plain = embed({{"input", "Once"}});
  const Json text = embed({{"input", "Once"}, {"encoding_format", "base64"}});
  const std::string digits = text.at("data").at(0).at("embedding");
  const auto value = [](char c) {
    return static_cast<std::uint32_t>(
        std::string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/").find(c));
  };
  std::string bytes;
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < digits.size() && digits[i] != '='; ++i) {
    bits = bits << 6 | value(digits[i]);
    if (i % 4 > 0) bytes += static_cast<char>(bits >> (6 - 2 * (i % 4)) & 0xFFU);
  }
  const Json& numbers = plain.at("data").at(0).at("embedding");
  ASSERT_EQ(bytes.size(), numbers.size() * sizeof(float));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    float number = 0;
    bytes.copy(reinterpret_cast<char*>(&number), sizeof number, i * sizeof number);
    EXPECT_EQ(number, numbers.at(i).get<float>());
  }
}

TEST_F(EmbeddingsTest, CountsAsAFinishedRequest) {
  embed({{"input", "Once"}});
  ASSERT_TRUE(server_.loop->wait_until_done(60));
  EXPECT_THAT(server_.api->handle({"GET", "/metrics", ""}).reply.body,
              HasSubstr("{finished_reason=\"stop\",model_name=\"tiny\"} 1"));
}

TEST_F(EmbeddingsTest, RefusesByName) {
  EXPECT_THAT(refusal(Json::object()), HasSubstr("'input' is missing"));
  EXPECT_THAT(refusal({{"input", ""}, {"dimensions", 3}}), HasSubstr("'dimensions' is 3"));
  EXPECT_THAT(refusal({{"input", "a"}, {"encoding_format", "int8"}}), HasSubstr("encoding_format"));
  EXPECT_THAT(refusal({{"input", Json::array()}}), HasSubstr("'input' is an empty list"));
  EXPECT_THAT(refusal({{"input", Json::array({99999})}}), HasSubstr("'input' has token 99999"));
  EXPECT_THAT(refusal({{"input", std::string(4000, 'x')}}), HasSubstr("'input' has"));
}

}  // namespace
}  // namespace larder
