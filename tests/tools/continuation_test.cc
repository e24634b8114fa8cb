// Scoring behind a cached context: which tokens, and that it equals decoding them one by one.
#include "continuation.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cached_context.h"
#include "codec/kv_codec.h"
#include "divergence.h"
#include "perplexity.h"
#include "process.h"

namespace larder {
namespace {

constexpr const char* kText =
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the sun "
    "with her friends. One day, she found a big red ball under the old tree. She was so happy "
    "that she ran home to show it to her mom. Her mom smiled and said, \"What a nice ball!\"";

EngineOptions stories_options() {
  EngineOptions options;
  options.model_path = std::string(LARDER_MODELS_DIR) + "/stories260K.gguf";
  options.n_context = 128;
  options.n_threads = 1;
  options.kv.block_tokens = 16;
  return options;
}

std::unique_ptr<Engine> open(const EngineOptions& options) {
  auto engine = Engine::open(options);
  EXPECT_TRUE(engine) << engine.error().message;
  return engine ? std::move(*engine) : nullptr;
}

TEST(PlanContinuations, SpreadsWindowsThatShareNoScoredToken) {
  for (const bool bos : {false, true}) {
    for (std::uint64_t n_tokens = 40; n_tokens < 400; n_tokens += 9) {
      for (const std::uint32_t n_windows : {1U, 3U, 8U}) {
        const ContinuationOptions options{30, 10, n_windows, 0};
        const auto windows = plan_continuations(n_tokens, options, bos);
        ASSERT_GE(windows.size(), 1U);
        ASSERT_LE(windows.size(), n_windows);
        std::uint64_t scored_end = 0;
        for (const Window& w : windows) {
          EXPECT_EQ(w.score_begin - w.begin, bos ? 29U : 30U);
          EXPECT_EQ(w.end - w.score_begin, 10U);
          EXPECT_GE(w.score_begin, scored_end);
          scored_end = w.end;
        }
        EXPECT_EQ(windows.front().begin, 0U);
        EXPECT_LE(scored_end, n_tokens);
        EXPECT_TRUE(windows.size() == 1 || scored_end == n_tokens);
        EXPECT_TRUE(n_tokens < 40 + 10 * n_windows || windows.size() == n_windows);
      }
    }
  }
}

TEST(CheckContinuations, NamesWhatDoesNotFit) {
  const auto engine = open(stories_options());
  const auto refusal = [&](const ContinuationOptions& options, std::size_t n_tokens) {
    const auto checked = check_continuations(*engine, options, n_tokens);
    return checked ? "" : checked.error().message;
  };
  EXPECT_EQ(refusal({64, 32, 4, 0}, 95), "");
  EXPECT_EQ(refusal({64, 32, 4, 0}, 94),
            "the text has 94 tokens, a context of 64 and 32 behind it take 95 and BOS");
  EXPECT_EQ(refusal({100, 32, 4, 0}, 1000),
            "a context of 100 tokens and 32 behind it need ctx-size 132, it is 128");
  EXPECT_NE(refusal({1, 32, 4, 0}, 1000), "");
  EXPECT_NE(refusal({64, 0, 4, 0}, 1000), "");
  EXPECT_NE(refusal({64, 32, 0, 0}, 1000), "");
}

/// Logits of prompt[begin] and what follows, scored in one request behind a cached context.
std::vector<std::vector<float>> scored_at_once(Engine& engine, const std::vector<TokenId>& prompt,
                                               std::uint32_t begin) {
  const auto context = cache_context(engine, {prompt.begin(), prompt.begin() + begin - 1});
  EXPECT_TRUE(context);
  EXPECT_GT(context->kv_bytes, 0U);
  std::vector<std::vector<float>> rows;
  Request request;
  request.prompt = prompt;
  request.max_tokens = 1;
  request.prompt_logprobs = true;
  request.prompt_logprobs_begin = begin;
  request.prompt_logits = [&rows](const PromptLogits& row) {
    rows.emplace_back(row.logits.begin(), row.logits.end());
  };
  request.reuse = context->id;
  EXPECT_TRUE(engine.submit(std::move(request)));
  std::uint32_t n_reused = 0;
  EXPECT_TRUE(run_until_idle(engine, [&](const TokenEvent& event) {
    n_reused = std::max(n_reused, event.n_reused_tokens);
  }));
  EXPECT_GE(n_reused + 32, begin - 1);  // at most a block is computed again
  engine.release(context->id);
  EXPECT_EQ(engine.stats().kv_bytes, 0U);
  return rows;
}

/// The same, one token at a time: each request continues the cache of the one before.
std::vector<std::vector<float>> scored_one_by_one(Engine& engine,
                                                  const std::vector<TokenId>& prompt,
                                                  std::uint32_t begin) {
  RequestId kept = 0;
  std::vector<std::vector<float>> rows;
  for (std::uint32_t n = begin; n < prompt.size(); ++n) {
    Request request;
    request.prompt.assign(prompt.begin(), prompt.begin() + n + 1);
    request.max_tokens = 1;
    request.prompt_logprobs = true;
    request.prompt_logprobs_begin = n;
    request.prompt_logits = [&rows](const PromptLogits& row) {
      rows.emplace_back(row.logits.begin(), row.logits.end());
    };
    request.reuse = kept;
    request.keep_cache = true;
    const auto id = engine.submit(std::move(request));
    EXPECT_TRUE(id);
    EXPECT_TRUE(run_until_idle(engine, [](const TokenEvent&) {}));
    engine.release(kept);
    kept = *id;
  }
  engine.release(kept);
  return rows;
}

/// What a query sees depends on its position alone, so that a chunk of a prompt and single tokens
/// behind the same cache are one thing, in every storage format.
TEST(Continuation, ScoringAtOnceIsDecodingTokenByToken) {
  int n_tested = 0;
  for (const std::string& model : {stories_model(), tiny_model()}) {
    for (const KvCodec* codec : kv_codecs()) {
      SCOPED_TRACE(testing::Message() << model << ", " << codec->name);
      EngineOptions options = stories_options();
      options.model_path = model;
      options.kv.type_k = options.kv.type_v = codec->name;
      auto opened = Engine::open(options);
      if (!opened) continue;  // not for keys, not for values, or not for heads of 8 or 16 channels
      ++n_tested;
      const auto prompt = literal_tokens((*opened)->tokenizer(), kText, 90);
      ASSERT_EQ(prompt.size(), 90U);
      const auto at_once = scored_at_once(**opened, prompt, 57);
      ASSERT_EQ(at_once.size(), 33U);
      EXPECT_EQ(at_once, scored_one_by_one(**opened, prompt, 57));
    }
  }
  EXPECT_GE(n_tested, 2 * 3 + 6);
}

TEST(Continuation, PerplexityAndDivergenceAgreeWithSlidingWindows) {
  const auto engine = open(stories_options());
  const auto silent = [](double, double) {};
  // One window of 60 + 40: what the second of two sliding windows scores, BOS in its place.
  const ContinuationOptions behind{60, 40, 1, 99};
  const auto scored = measure_perplexity(*engine, kText, behind, silent);
  ASSERT_TRUE(scored) << scored.error().message;
  EXPECT_EQ(scored->n_scored_tokens, 40U);
  EXPECT_EQ(scored->n_windows, 1U);
  const auto first = measure_perplexity(*engine, kText, PerplexityOptions{100, 50, 99, 1}, silent);
  const auto part = measure_perplexity(*engine, kText, PerplexityOptions{60, 50, 59, 1}, silent);
  ASSERT_TRUE(first && part);
  EXPECT_NEAR(scored->total_bits, first->total_bits - part->total_bits, 1e-3);

  EngineOptions exact = stories_options();
  exact.kv.type_k = exact.kv.type_v = "f32";
  const auto reference = open(exact);
  const auto kl = measure_divergence(*engine, *reference, kText, behind, silent);
  ASSERT_TRUE(kl) << kl.error().message;
  EXPECT_NEAR(kl->perplexity, scored->perplexity(), 1e-5 * scored->perplexity());
  EXPECT_GT(kl->mean, 0);
  EXPECT_LT(kl->mean, 1e-3);
  EXPECT_GE(kl->model_bytes_per_token, static_cast<double>(engine->kv_bytes_per_token()));
  EXPECT_GT(kl->reference_bytes_per_token, 1.5 * kl->model_bytes_per_token);
}

}  // namespace
}  // namespace larder
