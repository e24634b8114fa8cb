// Texts that are kept to a schema: they satisfy it, end where it is satisfied, or are cut off.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "larder/engine.h"
#include "model/text/tokenizer.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

struct Text {
  std::string text;
  FinishReason finish = FinishReason::none;
  std::size_t n_tokens = 0;
};

class StructuredTest : public testing::Test {
 protected:
  void SetUp() override {
    EngineOptions options;
    options.model_path = std::string(LARDER_MODELS_DIR) + "/stories260K.gguf";
    options.n_context = 512;
    options.n_sequences = 3;
    options.n_threads = 1;
    auto opened = Engine::open(options);
    ASSERT_TRUE(opened) << opened.error().message;
    engine_ = std::move(*opened);
    request_.prompt = engine_->tokenizer().encode("Once upon a time", {});
  }
  void keep_to(const std::string& schema) {
    const auto grammar = engine_->json_grammar(schema);
    ASSERT_TRUE(grammar.has_value()) << grammar.error().message;
    request_.grammar = *grammar;
  }
  std::vector<Text> run() {
    std::vector<Text> texts(request_.n_samples);
    EXPECT_TRUE(engine_->submit(request_));
    while (!engine_->idle()) {
      const auto report = engine_->step();
      EXPECT_TRUE(report.has_value());
      for (const TokenEvent& event : report->events) {
        Text& text = texts.at(event.sample);
        text.text += event.text;
        text.n_tokens += event.token >= 0 ? 1 : 0;
        if (event.finish != FinishReason::none) text.finish = event.finish;
      }
    }
    return texts;
  }
  std::unique_ptr<Engine> engine_;
  Request request_;
};

TEST_F(StructuredTest, TextsSatisfyTheSchema) {
  keep_to(R"({"type":"object","additionalProperties":false,"required":["name","age","tags"],
              "properties":{"name":{"type":"string","minLength":1,"maxLength":12},
                            "age":{"type":"integer"},"kind":{"enum":["cat","dog"]},
                            "tags":{"type":"array","items":{"type":"boolean"},"maxItems":3}}})");
  request_.n_samples = 3;
  request_.sampling.temperature = 1.5F;
  for (request_.sampling.seed = 1; request_.sampling.seed <= 5; ++request_.sampling.seed) {
    for (const Text& text : run()) {
      EXPECT_EQ(text.finish, FinishReason::stop);
      const Json json = Json::parse(text.text, nullptr, /*allow_exceptions=*/false);
      ASSERT_TRUE(json.is_object()) << text.text;
      EXPECT_TRUE(json.at("age").is_number_integer());
      EXPECT_LE(json.at("tags").size(), 3U);
      EXPECT_GE(json.at("name").get<std::string>().size(), 1U);
      if (json.contains("kind")) EXPECT_THAT(json.at("kind"), testing::AnyOf("cat", "dog"));
      EXPECT_LE(json.size(), 4U);
    }
  }
}

TEST_F(StructuredTest, EndsWithoutAnEndTokenWhereNothingCanFollow) {
  keep_to(R"({"const":true})");
  request_.ignore_eos = true;
  request_.sampling.temperature = 0;
  const Text text = run().front();
  EXPECT_EQ(Json::parse(text.text), true);
  EXPECT_EQ(text.finish, FinishReason::stop);
}

TEST_F(StructuredTest, AnEndTokenComesOnlyWhereTheTextMayEnd) {
  keep_to(R"({"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3})");
  const auto end = engine_->tokenizer().data().end_tokens.front();
  request_.sampling.logit_bias = {{end, 1000.0F}};
  request_.sampling.temperature = 0;
  const Text text = run().front();
  EXPECT_EQ(text.finish, FinishReason::stop);
  EXPECT_GE(Json::parse(text.text).size(), 2U);
}

TEST_F(StructuredTest, MaxTokensCutsOff) {
  keep_to(R"({"type":"array","items":{"type":"string"},"minItems":50})");
  request_.max_tokens = 7;
  const Text text = run().front();
  EXPECT_EQ(text.finish, FinishReason::length);
  EXPECT_EQ(text.n_tokens, 7U);
  EXPECT_TRUE(Json::parse(text.text, nullptr, /*allow_exceptions=*/false).is_discarded());
}

TEST_F(StructuredTest, BansOfTheSamplerDoNotLeadAstray) {
  keep_to(R"({"type":"integer"})");
  for (std::int32_t id = 0; id < 512; ++id) {
    request_.sampling.logit_bias.emplace_back(id, -std::numeric_limits<float>::infinity());
  }
  request_.max_tokens = 5;
  const Text text = run().front();
  EXPECT_THAT(text.text, testing::MatchesRegex("[ \n\t]*-?[0-9]*"));
}

TEST_F(StructuredTest, LogprobsAreTheModelsOwn) {
  request_.sampling.temperature = 0;
  request_.n_logprobs = 0;
  keep_to(R"({"type":"string"})");
  ASSERT_TRUE(engine_->submit(request_));
  float first = 0;
  while (!engine_->idle()) {
    const auto report = engine_->step();
    for (const TokenEvent& event : report->events) {
      if (first == 0 && event.logprob) first = event.logprob->logprob;
    }
  }
  EXPECT_LT(first, -1);  // a story does not go on with a quotation mark
}

TEST_F(StructuredTest, TheSameSchemaIsCompiledOnce) {
  const auto a = engine_->json_grammar(R"({"type":"null"})");
  const auto b = engine_->json_grammar(R"({"type":"null"})");
  const auto c = engine_->json_grammar(R"({"type":"null"})", "<", ">");
  ASSERT_TRUE(a && b && c);
  EXPECT_EQ(*a, *b);
  EXPECT_NE(*a, *c);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(engine_->json_grammar("{\"const\":" + std::to_string(i) + "}"));
  }
  const auto again = engine_->json_grammar(R"({"type":"null"})");
  ASSERT_TRUE(again);
  EXPECT_NE(*a, *again);  // forgotten meanwhile
}

TEST_F(StructuredTest, RefusesWhatItCannotKeepTo) {
  const auto grammar = engine_->json_grammar(R"({"type":"string","format":"date"})");
  ASSERT_FALSE(grammar);
  EXPECT_THAT(grammar.error().message, HasSubstr("'format'"));
}

}  // namespace
}  // namespace larder
