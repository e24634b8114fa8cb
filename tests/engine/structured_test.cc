// Texts that are kept to a schema: they satisfy it, end where it is satisfied, or are cut off.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/grammar_store.h"
#include "grammar/grammar.h"
#include "grammar/json_schema.h"
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
      EXPECT_THAT(json.value("kind", "cat"), testing::AnyOf("cat", "dog"));
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

/// A vocabulary of the model's size in which only one token has a text.
std::shared_ptr<const Grammar> grammar_of_one_token(std::size_t n_vocab,
                                                    const std::string& schema) {
  std::vector<std::string> pieces(n_vocab);
  pieces.back() = "1";
  auto automaton = compile_json_schema(schema);
  EXPECT_TRUE(automaton.has_value());
  return std::make_shared<const Grammar>(
      std::move(*automaton), std::make_shared<const TokenBytes>(pieces, std::vector<TokenId>{}));
}

TEST_F(StructuredTest, ATextThatCannotGoOnIsCutOff) {
  request_.ignore_eos = true;
  request_.grammar = grammar_of_one_token(512, R"({"const":112})");
  const Text text = run().front();
  EXPECT_EQ(text.finish, FinishReason::length);
  EXPECT_EQ(text.n_tokens, 3U);  // two are fine, the third stands for none
  request_.grammar = grammar_of_one_token(512, R"({"const":"a"})");
  const Text none = run().front();
  EXPECT_EQ(none.finish, FinishReason::length);
  EXPECT_EQ(none.text, "");
  EXPECT_EQ(engine_->stats().kv_bytes, 0U);
}

TEST_F(StructuredTest, AGrammarOfAnotherVocabularyIsRefused) {
  request_.grammar = grammar_of_one_token(500, "{}");
  const auto refused = engine_->submit(request_);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("the grammar is over 500 tokens"));
}

TEST_F(StructuredTest, GrammarsInUseAreBounded) {
  const GrammarStore store(engine_->tokenizer(), 512, /*max_bytes=*/200'000);
  std::vector<std::shared_ptr<const Grammar>> held;  // as by requests that wait
  std::string refusal;
  for (int i = 0; i < 100 && refusal.empty(); ++i) {
    const std::string text = std::to_string(i) + std::string(500, 'x');
    const auto grammar = store.json("{\"const\":\"" + text + "\"}", {});
    if (grammar) {
      held.push_back(*grammar);
    } else {
      EXPECT_EQ(grammar.error().code, Errc::unavailable);
      refusal = grammar.error().message;
    }
  }
  EXPECT_THAT(refusal, HasSubstr("the schemas of unfinished requests"));
  EXPECT_GT(held.size(), 5U);
  const std::string newest = std::to_string(held.size() - 1) + std::string(500, 'x');
  EXPECT_TRUE(store.json("{\"const\":\"" + newest + "\"}", {}));  // takes nothing more
  held.clear();
  EXPECT_TRUE(store.json(R"({"const":1})", {}));
}

TEST_F(StructuredTest, RefusesWhatItCannotKeepTo) {
  const auto grammar = engine_->json_grammar(R"({"type":"string","format":"date"})");
  ASSERT_FALSE(grammar);
  EXPECT_THAT(grammar.error().message, HasSubstr("'format'"));
}

}  // namespace
}  // namespace larder
