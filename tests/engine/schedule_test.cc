// Invariants 1, 2 and 3: over random schedules (chunk sizes, batch mixes, thread counts, samples,
// reused prefixes, preemption) every request gets the same tokens, and the bytes add up after every
// step.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "engine/schedule_runs.h"

namespace larder {
namespace {

using namespace schedule;

class ScheduleOf : public testing::TestWithParam<Model> {};
INSTANTIATE_TEST_SUITE_P(Models, ScheduleOf,
                         testing::Values(kStories, kMistral, kGemma3, kCla, kLatent, kExperts, kQ8,
                                         kQ4, kBf16, kExpertsQ8, kExpertsBf16, kRotated, kMixed,
                                         kInt8, kKivi8, kInt4, kRawLayer, kClaSealed, kLatentSealed,
                                         kLatentMixed, kTurned, kTurnedHalf, kTurnedWindows,
                                         kTurnedCla, kTurnedWide),
                         testing::PrintToStringParamName());

TEST_P(ScheduleOf, SameTokensForAnyScheduleChunkAndThreadCount) {
  check_any_schedule(GetParam(), 20, 12 * kTimes);
}

TEST_P(ScheduleOf, PreemptionChangesNothing) { check_preemption(GetParam(), 21, 8 * kTimes); }

TEST(Schedule, SamplesShareThePromptAndMatchLoneRuns) {
  EngineOptions options = base_options();
  options.n_sequences = 4;
  Request request;
  request.prompt = {1};
  for (int i = 0; i < 72; ++i) request.prompt.push_back(3 + i * 7 % 500);
  request.max_tokens = 20;
  request.ignore_eos = true;
  request.sampling.temperature = 1.0F;
  request.sampling.seed = 5;

  auto lone_engine = open_engine(options);
  ASSERT_TRUE(lone_engine->submit(request));
  std::map<Key, Outcome> lone;
  while (!lone_engine->idle()) collect(*lone_engine->step(), lone);
  const auto lone_peak = lone_engine->stats().kv_peak_bytes;

  auto engine = open_engine(options);
  request.n_samples = 4;
  const auto id = engine->submit(request);
  ASSERT_TRUE(id);
  std::map<Key, Outcome> outcomes;
  while (!engine->idle()) {
    collect(*engine->step(), outcomes);
    expect_bytes_add_up(*engine);
  }
  ASSERT_EQ(outcomes.size(), 4U);
  EXPECT_EQ((outcomes[{*id, 0}].tokens), (lone[{1, 0}].tokens));
  for (std::uint32_t i = 1; i < 4; ++i) {
    EXPECT_EQ((outcomes[{*id, i}].tokens.size()), 20U);
    EXPECT_NE((outcomes[{*id, i}].tokens), (outcomes[{*id, 0}].tokens));
  }
  // Prompt: 4 full blocks of 16 shared by all; each sample has at most 2 of its own per head.
  EXPECT_LT(engine->stats().kv_peak_bytes, 2 * lone_peak + lone_peak / 2);
  EXPECT_EQ(engine->stats().kv_bytes, 0U);
}

void check_preempted_samples(const Model& model) {
  Request request;
  request.prompt = {1};
  for (int i = 0; i < 60; ++i) request.prompt.push_back(3 + i * 11 % 500);
  request.max_tokens = 60;
  request.ignore_eos = true;
  request.n_samples = 4;
  request.sampling.temperature = 1.0F;
  request.sampling.seed = 9;
  std::map<Key, Outcome> expected;
  std::uint64_t one = 0;
  for (const std::uint32_t n_batch : {512U, 7U, 512U, 7U}) {
    EngineOptions options = base_options(model);
    options.n_batch = n_batch;
    if (expected.empty()) {
      one = open_engine(options)->stats().kv_budget_bytes;
    } else {
      options.kv.memory_bytes = one;  // four samples want more than that
    }
    options.n_sequences = 4;
    auto engine = open_engine(options);
    ASSERT_TRUE(engine->submit(request));
    std::map<Key, Outcome> outcomes;
    while (!engine->idle()) collect(*engine->step(), outcomes);
    if (expected.empty()) {
      expected = outcomes;
    } else {
      EXPECT_EQ(outcomes, expected);
      EXPECT_GT(engine->stats().n_preempted, 0U);
    }
    EXPECT_EQ(engine->stats().kv_bytes, 0U);
  }
}

TEST(Schedule, SamplesAreTheSameWhenPreempted) {
  for (const Model& model : {kStories, kInt4, kTurned}) {
    SCOPED_TRACE(testing::Message() << model);
    check_preempted_samples(model);
  }
}

TEST_P(ScheduleOf, ReusedPrefixGivesTheSameTokens) {
  std::mt19937 random(23);
  for (int round = 0; round < 10 * kTimes; ++round) {
    auto requests = make_requests(random, 2, GetParam());
    // The second prompt continues, or leaves, the first one somewhere.
    const std::size_t common = 1 + random() % requests[0].prompt.size();
    std::copy_n(requests[0].prompt.begin(), std::min(common, requests[1].prompt.size()),
                requests[1].prompt.begin());
    const auto expected = run_alone(requests, base_options(GetParam()));

    EngineOptions options = random_options(random, GetParam());
    options.n_batch = std::max(options.n_batch, 2U);
    options.n_sequences = 2;
    auto engine = open_engine(options);
    requests[0].keep_cache = true;
    const auto first = engine->submit(requests[0]);
    ASSERT_TRUE(first);
    std::map<Key, Outcome> outcomes;
    while (!engine->idle()) collect(*engine->step(), outcomes);
    EXPECT_GT(engine->stats().kv_bytes, 0U);
    requests[1].reuse = *first;
    const auto second = engine->submit(requests[1]);
    ASSERT_TRUE(second);
    if (round % 2 == 0) engine->release(*first);  // the fork holds its own references
    while (!engine->idle()) {
      collect(*engine->step(), outcomes);
      expect_bytes_add_up(*engine);
    }
    engine->release(*first);
    EXPECT_EQ((outcomes[{*first, 0}]), expected[0]);
    EXPECT_EQ((outcomes[{*second, 0}]), expected[1]);
    EXPECT_EQ(engine->stats().kv_bytes, 0U);
  }
}

TEST_P(ScheduleOf, KeptCachesGiveWayToThoseWhoRun) {
  std::mt19937 random(25);
  for (int round = 0; round < 12 * kTimes; ++round) {
    auto requests = make_requests(random, 6, GetParam());
    for (auto& r : requests) {
      std::copy_n(requests[0].prompt.begin(), std::min(r.prompt.size(), requests[0].prompt.size()),
                  r.prompt.begin());
    }
    const auto expected = run_alone(requests, base_options(GetParam()));
    EngineOptions options = random_options(random, GetParam());
    options.n_batch = std::max(options.n_batch, 2U);
    options.n_sequences = 1;
    options.kv.memory_bytes = open_engine(options)->stats().kv_budget_bytes;
    options.n_sequences = 1 + draw(random, 2);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      requests[i].keep_cache = true;
      requests[i].reuse = draw(random, static_cast<std::uint32_t>(i + 1));  // ids are 1, 2, ...
    }
    run_schedule(options, requests, expected, random);
  }
}

TEST(Schedule, LongContextsOfSeveralRunsAreExactToo) {
  std::mt19937 random(26);
  Request request;
  for (int i = 0; i < 1150; ++i) request.prompt.push_back(static_cast<int>(3 + draw(random, 500)));
  request.max_tokens = 12;
  request.ignore_eos = true;
  request.sampling.temperature = 0.9F;
  request.n_logprobs = 0;
  for (const Model& model : {kStories, kInt4, kTurnedWide}) {
    EngineOptions options = base_options(model);
    options.n_context = 1200;
    options.kv.block_tokens = 32;
    const std::vector<Request> requests = {request};
    const auto expected = run_alone(requests, options);
    for (const std::uint32_t n_batch : {1200U, 511U, 100U}) {
      SCOPED_TRACE(testing::Message() << model << ", n_batch " << n_batch);
      options.n_batch = n_batch;
      options.n_threads = 2;
      run_schedule(options, requests, expected, random);
    }
  }
}

// Sequences that share blocks are attended to together, over more than one run of rows.
void check_many_behind_one(const Model& model, std::uint64_t n_reused) {
  std::mt19937 random(27);
  EngineOptions options = base_options(model);
  options.n_context = 1200;
  options.kv.block_tokens = 32;
  Request first;
  for (int i = 0; i < 1060; ++i) first.prompt.push_back(static_cast<int>(3 + draw(random, 500)));
  first.max_tokens = 1;
  first.ignore_eos = true;
  first.n_logprobs = 0;
  std::vector<Request> requests(5, first);
  for (Request& r : requests) {
    r.prompt.push_back(static_cast<int>(3 + draw(random, 500)));
    r.max_tokens = 5 + draw(random, 20);
    r.sampling.temperature = 0.9F;
  }
  requests[4].prompt.resize(700);  // leaves the others in the second run
  const auto expected = run_alone(requests, options);
  first.keep_cache = true;
  for (Request& r : requests) r.reuse = 1;
  requests.insert(requests.begin(), first);
  options.n_sequences = 5;
  for (options.n_threads = 1; options.n_threads <= 2; ++options.n_threads) {
    auto engine = open_engine(options);
    std::map<Key, Outcome> outcomes;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      ASSERT_TRUE(engine->submit(requests[i]));  // the first runs before the others come
      while ((i == 0 || i == 5) && !engine->idle()) collect(*engine->step(), outcomes);
    }
    EXPECT_EQ(engine->stats().n_reused_tokens, n_reused);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ((outcomes[{i + 2, 0}]), expected[i]) << "request " << i;
    }
  }
}
TEST(Schedule, ManyBehindOneLongPrefixGetWhatEachGetsAlone) {
  check_many_behind_one(kStories, 4 * 1060 + 699);
}
TEST(Schedule, ManyBehindOneLongPrefixOfSealedBlocksToo) {
  check_many_behind_one(kInt4, 4 * 1060 + 672);  // whole blocks of the first
  check_many_behind_one(kTurned, 4 * 1060 + 672);
}

TEST(Schedule, CancelGivesEverythingBack) {
  std::mt19937 random(24);
  EngineOptions options = base_options();
  options.n_sequences = 3;
  options.n_batch = 16;
  auto engine = open_engine(options);
  for (int round = 0; round < 20; ++round) {
    auto requests = make_requests(random, 5);
    std::vector<RequestId> ids;
    for (auto& r : requests) {
      r.n_samples = 1 + draw(random, 2);
      ids.push_back(*engine->submit(r));
    }
    for (std::size_t i = random() % 12; i > 0; --i) ASSERT_TRUE(engine->step());
    for (const RequestId id : ids) engine->cancel(id);
    EXPECT_TRUE(engine->idle());
    EXPECT_EQ(engine->stats().kv_bytes, 0U);
  }
}

}  // namespace
}  // namespace larder
