// What an engine refuses, and how requests end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "larder/engine.h"
#include "model/text/tokenizer.h"

namespace larder {
namespace {

using testing::HasSubstr;

EngineOptions options() {
  EngineOptions o;
  o.model_path = std::string(LARDER_MODELS_DIR) + "/stories260K.gguf";
  o.n_context = 64;
  o.n_threads = 1;
  return o;
}

class RequestTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = Engine::open(options());
    ASSERT_TRUE(opened) << opened.error().message;
    engine_ = std::move(*opened);
    request_.prompt = engine_->tokenizer().encode("Once upon a time", {});
    request_.sampling.temperature = 0;
  }
  std::string refusal() {
    const auto id = engine_->submit(request_);
    EXPECT_FALSE(id);
    return id ? "" : id.error().message;
  }
  std::vector<TokenEvent> run() {
    EXPECT_TRUE(engine_->submit(request_));
    std::vector<TokenEvent> events;
    while (!engine_->idle()) {
      auto report = engine_->step();
      for (auto& e : report->events) events.push_back(std::move(e));
    }
    return events;
  }
  std::unique_ptr<Engine> engine_;
  Request request_;
};

TEST_F(RequestTest, RefusesEmptyPrompt) {
  request_.prompt.clear();
  EXPECT_EQ(refusal(), "the prompt is empty");
}

TEST_F(RequestTest, RefusesPromptLongerThanContext) {
  request_.prompt.assign(65, 1);
  EXPECT_EQ(refusal(), "the prompt has 65 tokens, the context holds 64");
}

TEST_F(RequestTest, ScoresThePromptFromAPlaceOn) {
  request_.max_tokens = 1;
  request_.prompt_logprobs = true;
  const auto scored = [&] {
    std::vector<std::pair<std::int32_t, float>> all;
    for (const TokenEvent& event : run()) {
      for (const TokenLogprob& p : event.prompt) all.emplace_back(p.token, p.logprob);
    }
    return all;
  };
  const auto n_prompt = static_cast<std::uint32_t>(request_.prompt.size());
  const auto all = scored();
  ASSERT_EQ(all.size(), n_prompt - 1);
  request_.prompt_logprobs_begin = 3;
  EXPECT_EQ(scored(), decltype(all)(all.begin() + 2, all.end()));
  request_.prompt_logprobs_begin = n_prompt;
  EXPECT_TRUE(scored().empty());
  request_.prompt_logprobs_begin = n_prompt + 1;
  EXPECT_THAT(refusal(), HasSubstr("prompt_logprobs_begin"));
  request_.prompt_logprobs_begin = 0;
  EXPECT_THAT(refusal(), HasSubstr("prompt_logprobs_begin is 0"));
}

TEST_F(RequestTest, RefusesTokensOutOfRange) {
  request_.prompt = {1, 512};
  EXPECT_EQ(refusal(), "prompt token 1 is 512, the model has ids 0 to 511");
  request_.prompt = {-1};
  EXPECT_EQ(refusal(), "prompt token 0 is -1, the model has ids 0 to 511");
}

TEST_F(RequestTest, RefusesMoreSamplesThanSequences) {
  request_.n_samples = 2;
  EXPECT_THAT(refusal(), HasSubstr("n_samples is 2"));
}

TEST_F(RequestTest, RefusesBadSamplingValues) {
  request_.sampling.temperature = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refusal(), HasSubstr("temperature"));
}

TEST_F(RequestTest, EndsAtMaxTokens) {
  request_.max_tokens = 5;
  const auto events = run();
  ASSERT_EQ(events.size(), 5U);
  EXPECT_EQ(events.back().finish, FinishReason::length);
}

TEST_F(RequestTest, EndsWhenTheContextIsFull) {
  request_.ignore_eos = true;
  const auto events = run();
  EXPECT_EQ(events.size(), 64 - request_.prompt.size() + 1);
  EXPECT_EQ(events.back().finish, FinishReason::length);
}

TEST_F(RequestTest, PromptAsLongAsTheContextStillGivesOneToken) {
  request_.prompt.assign(64, 1);
  EXPECT_EQ(run().size(), 1U);
}

TEST_F(RequestTest, EndsAtAStopStringThatIsNotShown) {
  request_.max_tokens = 40;
  std::string whole;
  for (const auto& e : run()) whole += e.text;
  const std::string stop = whole.substr(whole.size() / 2, 5);
  request_.stop = {stop};
  const auto events = run();
  std::string text;
  for (const auto& e : events) text += e.text;
  EXPECT_EQ(text, whole.substr(0, whole.find(stop)));
  EXPECT_EQ(events.back().finish, FinishReason::stop);
}

TEST_F(RequestTest, LogprobsAreThoseOfTheModel) {
  request_.max_tokens = 3;
  request_.n_logprobs = 4;
  for (const auto& e : run()) {
    ASSERT_TRUE(e.logprob);
    ASSERT_EQ(e.top.size(), 4U);
    EXPECT_EQ(e.top[0].token, e.token);  // greedy
    EXPECT_FLOAT_EQ(e.top[0].logprob, e.logprob->logprob);
    EXPECT_LE(e.logprob->logprob, 0.0F);
  }
}

TEST_F(RequestTest, PromptLogprobsCoverAllButTheFirstToken) {
  request_.max_tokens = 1;
  request_.prompt_logprobs = true;
  std::vector<TokenLogprob> scored;
  for (const auto& e : run()) scored.insert(scored.end(), e.prompt.begin(), e.prompt.end());
  ASSERT_EQ(scored.size(), request_.prompt.size() - 1);
  for (std::size_t i = 0; i < scored.size(); ++i) {
    EXPECT_EQ(scored[i].token, request_.prompt[i + 1]);
  }
}

TEST(EngineOpen, ShowsTheArithmeticWhenTheBudgetIsTooSmall) {
  EngineOptions o = options();
  o.kv.memory_bytes = 10000;
  const auto engine = Engine::open(o);
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().code, Errc::invalid_argument);
  EXPECT_THAT(engine.error().message,
              HasSubstr("64 tokens x 5 layers x 4 KV heads x 8 channels x (K bf16, V bf16)"));
  EXPECT_THAT(engine.error().message, HasSubstr("kv-memory 9.766 KiB"));
}

TEST_F(RequestTest, AKeptCacheIsStretchedByRepeatingItsBlocks) {
  request_.prompt.assign(32, 5);  // one block
  request_.max_tokens = 1;
  request_.ignore_eos = true;
  request_.keep_cache = true;
  run();
  EXPECT_THAT(engine_->stretch_kept(7, request_.prompt).error().message, HasSubstr("request 7"));
  EXPECT_THAT(engine_->stretch_kept(1, std::vector<std::int32_t>(65, 5)).error().message,
              HasSubstr("cannot be stretched to 65"));
  EXPECT_THAT(engine_->stretch_kept(1, std::vector<std::int32_t>(31, 5)).error().message,
              HasSubstr("cannot be stretched to 31"));
  const std::vector<std::int32_t> longer(57, 5);
  ASSERT_TRUE(engine_->stretch_kept(1, longer));
  request_.prompt.assign(58, 5);
  request_.reuse = 1;
  request_.keep_cache = false;
  EXPECT_EQ(run().size(), 1U);
  EXPECT_EQ(engine_->stats().n_reused_tokens, 57U);
  EXPECT_FALSE(engine_->stretch_kept(1, longer));  // 57 rows are no whole number of blocks
  engine_->release(1);
  EXPECT_EQ(engine_->stats().kv_bytes, 0U);
}

TEST(EngineOpen, RefusesAContextThatNoMachineHolds) {
  EngineOptions o = options();
  o.n_context = 1U << 24;
  o.n_sequences = 64;
  const auto engine = Engine::open(o);
  ASSERT_FALSE(engine);
  EXPECT_THAT(engine.error().message, HasSubstr("of the machine's memory"));
}

TEST(EngineOpen, RefusesAModelWithoutATokenizer) {
  EngineOptions o = options();
  o.model_path = std::string(LARDER_TEST_DATA) + "/models/llama_mha";
  const auto engine = Engine::open(o);
  ASSERT_FALSE(engine);
  EXPECT_THAT(engine.error().message, HasSubstr("models/llama_mha: the model has no tokenizer"));
}

TEST(EngineOpen, NamesWhatItCannotRun) {
  EngineOptions o = options();
  o.isa = "riscv";
  auto engine = Engine::open(o);
  ASSERT_FALSE(engine);
  EXPECT_THAT(engine.error().message, HasSubstr("'riscv'"));
  o = options();
  o.kv.type_k = "q9";
  engine = Engine::open(o);
  ASSERT_FALSE(engine);
  EXPECT_THAT(engine.error().message, HasSubstr("'q9'"));
  o = options();
  o.model_path = "/nowhere/model.gguf";
  engine = Engine::open(o);
  ASSERT_FALSE(engine);
  EXPECT_THAT(engine.error().message, HasSubstr("/nowhere/model.gguf"));
}

}  // namespace
}  // namespace larder
