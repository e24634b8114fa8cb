// Requests at random moments, compared with what each gets alone.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/schedule_models.h"
#include "larder/engine.h"

namespace larder::schedule {

/// Builds with checks are slow: one round there stands for several in a release, whose tests thus
/// run thousands of random schedules.
#ifdef NDEBUG
inline constexpr int kTimes = 4;
#else
inline constexpr int kTimes = 1;
#endif

inline std::uint32_t draw(std::mt19937& random, std::uint32_t n) {
  return static_cast<std::uint32_t>(random() % n);
}

inline std::vector<Request> make_requests(std::mt19937& random, std::size_t n,
                                          const Model& model = kStories) {
  std::vector<Request> requests(n);
  for (Request& r : requests) {
    r.prompt.resize(1 + draw(random, model.max_prompt));
    for (auto& id : r.prompt) id = static_cast<std::int32_t>(3 + draw(random, model.n_vocab - 3));
    r.prompt[0] = 1;
    r.max_tokens = 1 + draw(random, 40);
    r.ignore_eos = true;
    r.sampling.temperature = random() % 3 == 0 ? 0.0F : 0.9F;
    r.sampling.seed = random();
    r.n_logprobs = 0;
    r.prompt_logprobs = random() % 4 == 0;
    r.prompt_logprobs_begin = 1 + draw(random, static_cast<std::uint32_t>(r.prompt.size()));
  }
  return requests;
}

/// All that a request may observe: tokens and the exact bits of their log-probabilities.
struct Outcome {
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<float> prompt_logprobs;
  std::string text;
  bool operator==(const Outcome&) const = default;
};

using Key = std::pair<RequestId, std::uint32_t>;

inline void collect(const StepReport& report, std::map<Key, Outcome>& outcomes) {
  for (const TokenEvent& event : report.events) {
    Outcome& outcome = outcomes[{event.request, event.sample}];
    for (const auto& p : event.prompt) outcome.prompt_logprobs.push_back(p.logprob);
    if (event.token < 0) continue;
    outcome.tokens.push_back(event.token);
    outcome.text += event.text;
    if (event.logprob) outcome.logprobs.push_back(event.logprob->logprob);
  }
}

inline void expect_bytes_add_up(const Engine& engine) {
  const EngineStats stats = engine.stats();
  ASSERT_LE(stats.kv_bytes, stats.kv_budget_bytes);
  ASSERT_LE(stats.kv_peak_bytes, stats.kv_budget_bytes);
}

inline std::vector<Outcome> run_alone(const std::vector<Request>& requests,
                                      const EngineOptions& options = base_options()) {
  auto engine = open_engine(options);
  std::vector<Outcome> all;
  for (const Request& request : requests) {
    const auto id = engine->submit(request);
    EXPECT_TRUE(id.has_value());
    std::map<Key, Outcome> outcomes;
    while (!engine->idle()) collect(*engine->step(), outcomes);
    all.push_back(outcomes[{*id, 0}]);
    EXPECT_EQ(engine->stats().kv_bytes, 0U);
  }
  return all;
}

/// Submits the requests at random moments and compares each with what it got alone.
inline void run_schedule(const EngineOptions& options, const std::vector<Request>& requests,
                         const std::vector<Outcome>& expected, std::mt19937& random,
                         std::uint64_t* n_preempted = nullptr) {
  auto engine = open_engine(options);
  ASSERT_NE(engine, nullptr);
  std::map<Key, Outcome> outcomes;
  std::vector<RequestId> ids;
  while (ids.size() < requests.size() || !engine->idle()) {
    while (ids.size() < requests.size() && (engine->idle() || random() % 3 == 0)) {
      const auto id = engine->submit(requests[ids.size()]);
      ASSERT_TRUE(id.has_value()) << id.error().message;
      ids.push_back(*id);
    }
    const auto report = engine->step();
    ASSERT_TRUE(report.has_value()) << report.error().message;
    ASSERT_LE(report->n_prefill_tokens + report->n_decode_tokens, options.n_batch);
    collect(*report, outcomes);
    expect_bytes_add_up(*engine);
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    ASSERT_EQ((outcomes[{ids[i], 0}]), expected[i]) << "request " << i;
  }
  for (const RequestId id : ids) engine->release(id);
  EXPECT_EQ(engine->stats().kv_bytes, 0U);
  if (n_preempted != nullptr) *n_preempted += engine->stats().n_preempted;
}

inline EngineOptions random_options(std::mt19937& random, const Model& model = kStories) {
  EngineOptions options = base_options(model);
  constexpr std::uint32_t kBatches[] = {1, 2, 3, 7, 16, 33, 64, 512};
  options.n_batch = kBatches[random() % std::size(kBatches)];
  options.n_sequences = 1 + draw(random, std::min(6U, options.n_batch));
  options.n_threads = 1 + draw(random, 2);
  options.pack_while_running = random() % 2 == 0;
  return options;
}

/// Random chunks, batch mixes and thread counts change no bit.
inline void check_any_schedule(const Model& model, unsigned seed, int n_rounds) {
  std::mt19937 random(seed);
  const auto requests = make_requests(random, 10, model);
  const auto expected = run_alone(requests, base_options(model));
  for (int round = 0; round < n_rounds; ++round) {
    const EngineOptions options = random_options(random, model);
    SCOPED_TRACE(testing::Message()
                 << "round " << round << ", n_batch " << options.n_batch << ", n_sequences "
                 << options.n_sequences << ", threads " << options.n_threads);
    run_schedule(options, requests, expected, random);
  }
}

/// Nor does a budget in which few of those that want to run find room.
inline void check_preemption(const Model& model, unsigned seed, int n_rounds) {
  std::mt19937 random(seed);
  auto requests = make_requests(random, 10, model);
  for (Request& r : requests) r.max_tokens += model.n_context / 8;  // they outgrow the budget
  const auto expected = run_alone(requests, base_options(model));
  std::uint64_t n_preempted = 0;
  for (int round = 0; round < n_rounds; ++round) {
    EngineOptions options = random_options(random, model);
    options.n_batch = std::max(options.n_batch, 4U);
    options.n_sequences = 1;
    const auto one = open_engine(options)->stats().kv_budget_bytes;
    options.n_sequences = 4;
    // Room for one sequence of the full context, four want to run. Raw first blocks are the larger
    // part of a short sequence: beside them a second one needs half as much again.
    options.kv.memory_bytes = model.raw_blocks > 0 ? one + one / 2 : one;
    SCOPED_TRACE(testing::Message() << "round " << round << ", n_batch " << options.n_batch);
    run_schedule(options, requests, expected, random, &n_preempted);
  }
  EXPECT_GT(n_preempted, 0U);  // else the test tests nothing
}

}  // namespace larder::schedule
