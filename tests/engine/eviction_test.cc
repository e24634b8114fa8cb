// Policies that drop cached rows: the same bits for any schedule, memory that comes back, refusals.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "engine/policy_runs.h"
#include "engine/schedule_runs.h"
#include "policy/methods.h"

namespace larder {
namespace {

using namespace schedule;

class EvictionOf : public testing::TestWithParam<Model> {};
INSTANTIATE_TEST_SUITE_P(Policies, EvictionOf,
                         testing::Values(kStreaming, kSealedStreaming, kRawSinks, kWindow,
                                         kKeysKept, kSpreadKept, kLotsKept, kHeavy, kLastQuery,
                                         kObserved, kExpected, kPyramid, kSplit, kSplitExpected,
                                         kSplitShared, kCapped, kSealedCapped, kUnimportant, kNoisy,
                                         kRising, kByFile, kClasses, kSharedOut, kJoined, kReread,
                                         kRereadShared, kPatterns, kPatternsShared, kRuns,
                                         kRunsLong, kSealedNorms, kSealedWindows, kSealedExpected,
                                         kSealedLots, kSealedHeavy, kSealedWindow, kSealedPyramid,
                                         kLatentWindow, kLatentLots),
                         testing::PrintToStringParamName());

TEST_P(EvictionOf, SameTokensForAnyScheduleChunkAndThreadCount) {
  check_any_schedule(GetParam(), 30, 12);
}

TEST_P(EvictionOf, PreemptionChangesNothing) { check_preemption(GetParam(), 31, 8); }

/// Samples of one prompt, which share its compressed blocks and then drop rows each for itself.
TEST_P(EvictionOf, SamplesAreTheSameWhenPreempted) {
  Request request;
  request.prompt = {1};
  for (int i = 0; i < 70; ++i) request.prompt.push_back(3 + i * 11 % 77);
  request.max_tokens = 60;
  request.ignore_eos = true;
  request.n_samples = 4;
  request.sampling.temperature = 1.0F;
  request.sampling.seed = 9;
  std::map<Key, Outcome> expected;
  std::uint64_t one = 0;
  for (const std::uint32_t n_batch : {512U, 7U, 512U}) {
    EngineOptions options = base_options(GetParam());
    options.n_batch = n_batch;
    if (expected.empty()) {
      one = open_engine(options)->stats().kv_budget_bytes;
    } else {
      options.kv.memory_bytes = one;
    }
    options.n_sequences = 4;
    auto engine = open_engine(options);
    ASSERT_TRUE(engine->submit(request));
    std::map<Key, Outcome> outcomes;
    while (!engine->idle()) {
      collect(*engine->step(), outcomes);
      expect_bytes_add_up(*engine);
    }
    if (expected.empty()) expected = outcomes;
    EXPECT_EQ(outcomes, expected);
    EXPECT_EQ(engine->stats().kv_bytes, 0U);
  }
}

/// A context is compressed before anybody knows the question; the kept cache may be gone when the
/// sequence that goes on from it has to be computed again.
TEST_P(EvictionOf, WhatGoesOnFromACompressedCacheIsTheSameForAnySchedule) {
  std::mt19937 random(33);
  auto requests = make_requests(random, 3, GetParam());
  Request& context = requests[0];
  context.prompt.assign(90, 1);
  for (auto& id : context.prompt) id = static_cast<int>(3 + draw(random, GetParam().n_vocab - 3));
  context.prompt_logprobs = false;
  context.max_tokens = 1;
  context.keep_cache = true;
  for (std::size_t i = 1; i < requests.size(); ++i) {
    Request& r = requests[i];
    r.prompt_logprobs = false;
    r.prompt.resize(std::min<std::size_t>(r.prompt.size(), 25));
    r.prompt.insert(r.prompt.begin(), context.prompt.begin(), context.prompt.end());
    r.reuse = 1;
  }
  Request other = requests[0];  // goes before the two, and takes their blocks
  other.keep_cache = false;
  other.prompt.back() = 3;
  other.max_tokens = 60;
  requests[1].priority = requests[2].priority = 1;
  EngineOptions options = base_options(GetParam());
  const auto one = open_engine(options)->stats().kv_budget_bytes;
  std::vector<Outcome> expected;
  int n_checked = 0;
  for (int round = 0; round < 8; ++round) {
    if (round > 0) options = random_options(random, GetParam());
    options.n_batch = std::max(options.n_batch, 4U);
    options.n_sequences = 3;
    options.kv.memory_bytes = round % 2 == 0 ? 0 : 2 * one;
    auto engine = open_engine(options);
    std::map<Key, Outcome> outcomes;
    ASSERT_EQ(*engine->submit(context), 1U);
    while (!engine->idle()) collect(*engine->step(), outcomes);
    ASSERT_TRUE(engine->submit(requests[1]));
    ASSERT_TRUE(engine->submit(requests[2]));
    // Rows are also counted for one that is then not admitted, for want of memory.
    const auto both_started = [&] {
      const EngineStats stats = engine->stats();
      return stats.n_running == 2 && stats.n_reused_tokens == 2 * context.prompt.size();
    };
    while (!both_started() && !engine->idle()) collect(*engine->step(), outcomes);
    // Where memory is short, the kept cache may have gone before the second began.
    const bool is_checked = both_started();
    n_checked += is_checked ? 1 : 0;
    engine->release(1);
    ASSERT_TRUE(engine->submit(other));
    while (!engine->idle()) collect(*engine->step(), outcomes);
    const std::vector<Outcome> got = {outcomes[{2, 0}], outcomes[{3, 0}]};
    if (expected.empty()) expected = got;
    EXPECT_TRUE(!is_checked || got == expected) << "round " << round;
    EXPECT_EQ(engine->stats().kv_bytes, 0U);
  }
  EXPECT_GE(n_checked, 4);
}

/// The reply is edited before the conversation goes on: its other rows are still good, unless their
/// queries counted.
TEST(Eviction, GoesOnFromWithinACompressedCacheWhereNothingWasCounted) {
  Request first;
  for (int i = 0; i < 80; ++i) first.prompt.push_back(3 + i * 7 % 500);
  first.ignore_eos = true;
  first.keep_cache = true;
  first.sampling.temperature = 0;
  EngineOptions options = base_options();
  options.kv.keep = "30";
  const auto continue_behind = [&](std::uint32_t n_generated) {
    auto engine = open_engine(options);
    Request turn = first;
    turn.max_tokens = n_generated;
    std::map<Key, Outcome> outcomes;
    EXPECT_TRUE(engine->submit(turn));
    while (!engine->idle()) collect(*engine->step(), outcomes);
    auto& reply = outcomes[{1, 0}].tokens;
    reply.resize(5);  // of which a reply of six has the rows of all
    Request next = first;
    next.prompt.insert(next.prompt.end(), reply.begin(), reply.end());
    next.prompt.insert(next.prompt.end(), {9, 8, 7});
    next.max_tokens = 12;
    next.n_logprobs = 0;
    next.reuse = 1;
    EXPECT_TRUE(engine->submit(next));
    while (!engine->idle()) collect(*engine->step(), outcomes);
    return std::pair(engine->stats().n_reused_tokens, outcomes[{2, 0}]);
  };
  for (const char* policy : {"snapkv:recent=8,window=8", "tova:every=64", "knorm:recent=4"}) {
    options.kv.policy = policy;
    const auto [n_reused, outcome] = continue_behind(12);
    EXPECT_EQ(n_reused, 85U) << policy;
    EXPECT_EQ(outcome, continue_behind(6).second) << policy;
  }
  options.kv.policy = "h2o";
  EXPECT_EQ(continue_behind(12).first, 0U);
  EXPECT_EQ(continue_behind(6).first, 85U);
}

/// While a preempted sequence waits, the request that it names is done and keeps a cache that
/// dropped rows at another place than the sequence did; by now it has drawn tokens up to behind
/// that place.
TEST(Eviction, PreemptedSequencesKeepToTheirOwnPlaces) {
  const auto repeats = [](std::size_t n_prompt, std::uint32_t max_tokens) {
    Request request;
    request.prompt.assign(n_prompt, 9);
    request.prompt[0] = 1;
    request.max_tokens = max_tokens;
    request.ignore_eos = true;
    request.n_logprobs = 0;
    request.sampling.temperature = 0;
    request.sampling.repetition_penalty = 1;
    request.sampling.logit_bias = {{9, 1e6F}};  // the same text, whatever the prompt
    return request;
  };
  EngineOptions options = base_options();
  options.kv.policy = "knorm:sinks=1,recent=4,every=0";
  options.kv.keep = "30";
  Request longer = repeats(60, 70), shorter = repeats(41, 70);
  const Outcome expected = run_alone({shorter}, options)[0];
  ASSERT_EQ(expected.tokens, std::vector<std::int32_t>(70, 9));

  options.kv.memory_bytes = open_engine(options)->stats().kv_budget_bytes;  // of 160 rows
  options.n_sequences = 2;
  auto engine = open_engine(options);
  longer.keep_cache = true;
  ASSERT_EQ(*engine->submit(longer), 1U);
  shorter.reuse = 1;
  ASSERT_EQ(*engine->submit(shorter), 2U);
  std::map<Key, Outcome> outcomes;
  while (outcomes[{1, 0}].tokens.size() < 70) collect(*engine->step(), outcomes);
  ASSERT_EQ(engine->stats().n_preempted, 1U);
  // Of the text, 60 tokens and more: the kept cache could be gone on from.
  const std::size_t n_drawn = outcomes[{2, 0}].tokens.size();
  ASSERT_GT(shorter.prompt.size() + n_drawn, longer.prompt.size() + 1);
  ASSERT_LT(n_drawn, 70U);
  while (!engine->idle()) collect(*engine->step(), outcomes);
  EXPECT_EQ((outcomes[{2, 0}]), expected);
  EXPECT_EQ(engine->stats().n_reused_tokens, 0U);
}

TEST(Eviction, TextsWithinTheBudgetAreThoseOfAFullCache) {
  std::mt19937 random(34);
  auto requests = make_requests(random, 5);
  for (Request& r : requests) {
    r.prompt.resize(std::min<std::size_t>(r.prompt.size(), 50));
    r.max_tokens = 10;
  }
  const auto expected = run_alone(requests);
  for (const char* policy : {"streaming-llm", "window", "knorm", "keydiff", "random", "h2o",
                             "snapkv", "tova", "pyramidkv", "lm-infinite", "scissorhands",
                             "keyformer", "pyramidinfer", "kvzip", "fastgen", "kvmerger"}) {
    EngineOptions options = base_options();
    options.kv.policy = policy;
    options.kv.keep = "64";
    EXPECT_EQ(run_alone(requests, options), expected) << policy;
  }
}

/// K and V of a first layer depend on their token and position alone. With no other layer, a window
/// behind the sinks is what StreamingLLM says it is: the same model over the rows that are left,
/// with the positions that they have there.
TEST(Eviction, StreamingEqualsTheTextThatIsLeft) {
  const Model model{"shallow_f32", 512, 640, 340, "f32", "f32"};
  Request request;
  for (int i = 0; i < 300; ++i) request.prompt.push_back(3 + i * 37 % 500);
  request.max_tokens = 1;
  request.ignore_eos = true;
  request.sampling.temperature = 0;
  request.n_logprobs = 20;
  EngineOptions streaming = base_options(model);
  streaming.kv.policy = "streaming-llm:sinks=5,every=32";
  streaming.kv.keep = "100";
  const auto streamed = top(streaming, request);
  // Rows were dropped last behind 288 tokens; 12 came since.
  Request left = request;
  left.prompt.assign(request.prompt.begin(), request.prompt.begin() + 5);
  left.prompt.insert(left.prompt.end(), request.prompt.begin() + 288 - 95, request.prompt.end());
  const auto plain = top(base_options(model), left);
  ASSERT_EQ(streamed.size(), 20U);
  for (const auto& [token, logprob] : plain) {
    ASSERT_TRUE(streamed.contains(token));
    EXPECT_NEAR(streamed.at(token), logprob, 2e-4) << token;
  }
  const auto full = top(base_options(model), request);
  EXPECT_NE(full.begin()->second, plain.begin()->second);
}

TEST(Eviction, MemoryIsThatOfTheRowsThatStayAndTheNextChunk) {
  EngineOptions options = base_options();
  options.n_context = 4096;
  options.n_batch = 512;
  const auto full = open_engine(options)->stats().kv_budget_bytes;
  options.kv.policy = "streaming-llm:every=64";
  options.kv.keep = "192";
  auto engine = open_engine(options);
  EXPECT_EQ(engine->stats().kv_budget_bytes, full / 16);  // 256 of 4096 rows
  Request request;
  for (int i = 0; i < 2000; ++i) request.prompt.push_back(3 + i * 7 % 500);
  request.max_tokens = 2000;
  request.ignore_eos = true;
  ASSERT_TRUE(engine->submit(request));
  while (!engine->idle()) {
    ASSERT_TRUE(engine->step());
    if (engine->idle()) break;
    ASSERT_GE(engine->stats().kv_bytes, 192 * full / 4096);
  }
  EXPECT_EQ(engine->stats().kv_peak_bytes, full / 16);
  EXPECT_EQ(engine->stats().kv_bytes, 0U);
}

TEST(Eviction, BlocksOfDroppedRowsAreFreeWhenThePromptIsDone) {
  EngineOptions options = base_options();  // blocks of 16 rows
  options.n_context = 1024;
  const auto engine = open_engine(options);
  const std::uint32_t n_layers = engine->config().n_layers, n_heads = engine->config().n_kv_heads;
  const std::uint64_t block = engine->stats().kv_budget_bytes / 64 / n_layers / n_heads;
  options.kv.keep = "200";
  for (const char* policy : {"snapkv", "h2o", "keydiff:every=64"}) {
    options.kv.policy = policy;
    EXPECT_EQ(bytes_behind_prompt(options, 800), 13 * n_layers * n_heads * block) << policy;
  }
  options.kv.policy = "ada-snapkv";  // each head rounds up by itself
  const std::uint64_t bytes = bytes_behind_prompt(options, 800);
  EXPECT_GE(bytes, n_layers * (200 * n_heads - n_heads) * block / 16);
  EXPECT_LE(bytes, n_layers * (200 * n_heads + 16 * n_heads) * block / 16);

  options.kv.policy = "pyramidkv:every=64";  // cut down several times on the way
  options.kv.keep = "100";
  const Policy policy = *parse_policy(options.kv.policy);
  std::uint64_t n_blocks = 0;
  for (std::uint32_t l = 0; l < n_layers; ++l) {
    n_blocks += (rows_of_layer(policy, 100, l, n_layers, 400) + 15) / 16 * n_heads;
  }
  EXPECT_EQ(bytes_behind_prompt(options, 400), n_blocks * block);
}

/// With the whole budget dealt out evenly, heads that are stored apart are those that are not.
TEST(Eviction, HeadsApartWithEqualBudgetsAreASharedLayer) {
  std::mt19937 random(35);
  const auto requests = make_requests(random, 6);
  EngineOptions options = base_options();
  options.kv.keep = "30";
  options.kv.policy = "snapkv:recent=8,window=8,every=20";
  const auto expected = run_alone(requests, options);
  options.kv.policy = "ada-snapkv:recent=8,window=8,every=20,floor-percent=100";
  EXPECT_EQ(run_alone(requests, options), expected);
  options.kv.policy = "ada-snapkv:recent=8,window=8,every=20";
  EXPECT_NE(run_alone(requests, options), expected);
}

std::string refusal(const EngineOptions& options) {
  auto engine =
      options.model_path.ends_with(".gguf") ? Engine::open(options) : open_fixture(options);
  return engine ? "accepted" : engine.error().message;
}

TEST(Eviction, RefusesWhatItCannotDo) {
  const auto with_policy = [](const Model& model, const char* policy, const char* keep) {
    EngineOptions options = base_options(model);
    options.kv.policy = policy;
    options.kv.keep = keep;
    return refusal(options);
  };
  EXPECT_EQ(with_policy(kStories, "knorm", "100"), "accepted");
  EXPECT_NE(with_policy(kStories, "", "100").find("no kv-policy"), std::string::npos);
  EXPECT_NE(with_policy(kStories, "knorm", "").find("needs a kv-keep"), std::string::npos);
  EXPECT_NE(with_policy(kStories, "knorm", "36").find("stay in any case"), std::string::npos);
  EXPECT_NE(with_policy(kStories, "best", "36").find("is not known"), std::string::npos);
  EXPECT_NE(with_policy(kStories, "streaming-llm:every=0", "100").find("never drops"),
            std::string::npos);
  for (const char* policy : {"knorm", "streaming-llm", "h2o", "expected-attention", "kvzip"}) {
    EXPECT_NE(with_policy(kLatent, policy, "100").find("latent attention"), std::string::npos);
  }
  EXPECT_EQ(with_policy(kLatent, "random", "100"), "accepted");
  EXPECT_NE(with_policy(kLatentSealed, "window", "100").find("raw formats"), std::string::npos);
  EXPECT_NE(with_policy(kMistral, "knorm", "100").find("sliding window of 24"), std::string::npos);
  EXPECT_EQ(with_policy(kInt8, "knorm", "100"), "accepted");
  EXPECT_NE(with_policy(kRawSinks, "knorm", "100").find("scales in common"), std::string::npos);
  EXPECT_NE(with_policy(kInt8, "ada-expected-attention", "100").find("different numbers of rows"),
            std::string::npos);
  EXPECT_EQ(with_policy(kInt8, "h2o", "100"), "accepted");
  EXPECT_NE(with_policy(kInt8, "kvzip", "100").find("reads the prompt again"), std::string::npos);
  EXPECT_NE(with_policy(kInt8, "d2o", "100").find("a second time"), std::string::npos);
  EXPECT_NE(with_policy(kInt8, "streaming-llm", "64").find("multiples of 16"), std::string::npos);
  EXPECT_NE(with_policy(kStories, "fastgen", "1M").find("as many rows as it needs"),
            std::string::npos);
  const std::string raw = with_policy(kInt4, "streaming-llm:sinks=16", "64");
  EXPECT_NE(raw.find("kv-raw-blocks 2 are the first 32 rows"), std::string::npos) << raw;
  EXPECT_EQ(with_policy(kInt4, "streaming-llm:sinks=32", "64"), "accepted");
}

}  // namespace
}  // namespace larder
