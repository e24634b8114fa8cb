// Requests that share cached beginnings get what each gets alone, bit by bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <ostream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "engine/schedule_models.h"
#include "larder/engine.h"

namespace larder {
namespace {

using namespace schedule;

std::uint32_t draw(std::mt19937& random, std::uint32_t n) {
  return static_cast<std::uint32_t>(random() % n);
}

struct Outcome {
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
  std::uint32_t n_reused = 0;
  bool same_as(const Outcome& o) const { return tokens == o.tokens && logprobs == o.logprobs; }
};

using Outcomes = std::map<RequestId, Outcome>;

void step(Engine& engine, Outcomes& outcomes) {
  const auto report = engine.step();
  ASSERT_TRUE(report.has_value()) << report.error().message;
  for (const TokenEvent& event : report->events) {
    if (event.token < 0) continue;
    Outcome& out = outcomes[event.request];
    out.tokens.push_back(event.token);
    out.logprobs.push_back(event.logprob->logprob);
    out.n_reused = event.n_reused_tokens;
  }
  const EngineStats stats = engine.stats();
  ASSERT_LE(stats.kv_peak_bytes, stats.kv_budget_bytes);
}

Outcome run_to_end(Engine& engine, const Request& request) {
  Outcomes outcomes;
  const auto id = engine.submit(request);
  EXPECT_TRUE(id.has_value());
  while (!engine.idle()) step(engine, outcomes);
  return outcomes[*id];
}

/// Prompts cut out of few texts, so that many begin alike.
std::vector<Request> make_requests(std::mt19937& random, std::size_t n, const Model& model) {
  std::vector<std::vector<std::int32_t>> texts(3);
  for (auto& text : texts) {
    text = {1};
    while (text.size() < model.max_prompt) {
      text.push_back(static_cast<std::int32_t>(3 + draw(random, model.n_vocab - 3)));
    }
  }
  std::copy_n(texts[0].begin(), model.max_prompt / 2, texts[1].begin());
  std::vector<Request> requests(n);
  for (Request& r : requests) {
    r.prompt = texts[draw(random, 3)];
    r.prompt.resize(1 + draw(random, model.max_prompt));
    if (random() % 4 == 0) r.prompt.back() = 3;
    r.max_tokens = 1 + draw(random, 30);
    r.ignore_eos = true;
    r.sampling.temperature = random() % 3 == 0 ? 0.0F : 0.9F;
    r.sampling.seed = random();
    r.n_logprobs = 0;
    if (random() % 4 == 0) r.cache_salt = "tenant";
  }
  return requests;
}

class PrefixOf : public testing::TestWithParam<Model> {};
INSTANTIATE_TEST_SUITE_P(Models, PrefixOf,
                         testing::Values(kStories, kMistral, kGemma3, kCla, kLatent, kExperts,
                                         kRotated, kMixed, kInt8, kInt4, kRawLayer, kClaSealed,
                                         kStreaming, kSealedStreaming, kRawSinks, kKeysKept,
                                         kLotsKept, kHeavy, kObserved, kSplit, kPyramid, kReread,
                                         kRereadWindows, kSealedNorms, kSealedWindows,
                                         kLatentWindow, kQuest, kQuestSealed, kRetrieved,
                                         kRetrievedSealed, kTurned, kTurnedCla),
                         testing::PrintToStringParamName());

/// Random schedules over one engine whose cache stays from round to round.
void check_rounds(std::mt19937& random, const EngineOptions& options, const Model& model,
                  Engine& alone) {
  auto engine = open_engine(options);
  for (int round = 0; round < 4; ++round) {
    const auto requests = make_requests(random, 10, model);
    Outcomes outcomes;
    std::vector<RequestId> ids;
    while (ids.size() < requests.size() || !engine->idle()) {
      while (ids.size() < requests.size() && (engine->idle() || random() % 3 == 0)) {
        ids.push_back(*engine->submit(requests[ids.size()]));
      }
      step(*engine, outcomes);
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      EXPECT_TRUE(outcomes[ids[i]].same_as(run_to_end(alone, requests[i]))) << "request " << i;
    }
  }
  // Of h2o only compressed beginnings are shared, which are the first to go when memory is short.
  const bool is_short = options.kv.memory_bytes != 0;
  const bool may_share_none = is_short && std::string_view(model.policy).starts_with("h2o");
  EXPECT_TRUE(engine->stats().n_reused_tokens > 0 || may_share_none);
  for (const char* salt : {"", "tenant"}) engine->drop_prefix({}, salt);
  EXPECT_EQ(engine->stats().kv_bytes, 0U);
}

TEST_P(PrefixOf, SharingChangesNothing) {
  std::mt19937 random(41);
  const Model& model = GetParam();
  auto alone = open_engine(base_options(model));
  for (int i = 0; i < 4; ++i) {
    EngineOptions options = base_options(model);
    constexpr std::uint32_t kBatches[] = {7, 33, 64, 512};
    options.n_batch = kBatches[i];
    options.n_sequences = 1 + draw(random, 5);
    options.n_threads = 1 + draw(random, 2);
    options.kv.prefix_caching = true;
    SCOPED_TRACE(testing::Message()
                 << "n_batch " << options.n_batch << ", n_sequences " << options.n_sequences);
    check_rounds(random, options, model, *alone);
  }
}

TEST_P(PrefixOf, EvictionAndPreemptionChangeNothing) {
  std::mt19937 random(42);
  const Model& model = GetParam();
  auto alone = open_engine(base_options(model));
  EngineOptions options = base_options(model);
  options.n_batch = 48;
  options.kv.memory_bytes = alone->stats().kv_budget_bytes;  // room for one of the full context
  options.n_sequences = 4;
  options.kv.prefix_caching = true;
  check_rounds(random, options, model, *alone);
}

Request of_prompt(std::vector<std::int32_t> prompt) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = 4;
  request.ignore_eos = true;
  request.n_logprobs = 0;
  request.sampling.temperature = 0;
  return request;
}

std::vector<std::int32_t> long_prompt(std::size_t n) {
  std::vector<std::int32_t> prompt = {1};
  while (prompt.size() < n)
    prompt.push_back(static_cast<std::int32_t>(3 + prompt.size() * 7 % 500));
  return prompt;
}

TEST(Prefix, WhatComesAtTheSameTimeIsComputedOnce) {
  EngineOptions options = base_options();
  options.n_batch = 32;
  options.n_sequences = 8;
  options.kv.prefix_caching = true;
  auto engine = open_engine(options);
  Outcomes outcomes;
  for (int i = 0; i < 8; ++i) {
    auto prompt = long_prompt(100);
    prompt.back() = 10 + i;
    ASSERT_TRUE(engine->submit(of_prompt(std::move(prompt))));
  }
  while (!engine->idle()) step(*engine, outcomes);
  EXPECT_EQ(engine->stats().n_prefill_tokens, 100U + 7 * 4);  // 96 of each are whole blocks
  EXPECT_EQ(engine->stats().n_reused_tokens, 7 * 96U);
  EXPECT_EQ(outcomes[1].n_reused, 0U);
  for (RequestId id = 2; id <= 8; ++id) EXPECT_EQ(outcomes[id].n_reused, 96U);
}

TEST(Prefix, TheNextTurnOfAConversationComputesItsNewWordsOnly) {
  EngineOptions options = base_options();
  options.kv.prefix_caching = true;
  auto engine = open_engine(options);
  Request request = of_prompt(long_prompt(50));
  request.max_tokens = 20;
  const Outcome first = run_to_end(*engine, request);
  request.prompt.insert(request.prompt.end(), first.tokens.begin(), first.tokens.end());
  request.prompt.push_back(9);
  EXPECT_EQ(run_to_end(*engine, request).n_reused, 69U);  // the last token drawn had no row
}

TEST(Prefix, SaysWhyNotMoreWasCached) {
  EngineOptions options = base_options();
  options.kv.prefix_caching = true;
  auto engine = open_engine(options);
  const auto why = [&](Request request) {
    const auto id = engine->submit(std::move(request));
    while (!engine->idle()) EXPECT_TRUE(engine->step());
    return *engine->prefix_report(*id);
  };
  Request request = of_prompt(long_prompt(60));
  EXPECT_EQ(why(request).reason, "new_salt");
  EXPECT_EQ(why(request).reason, "covered");
  EXPECT_EQ(why(request).n_cached_tokens, 59U);
  request.prompt[20] = 5;
  const PrefixReport differs = why(request);
  EXPECT_EQ(differs.reason, "differs");
  EXPECT_EQ(differs.n_cached_tokens, 20U);
  EXPECT_EQ(differs.token, 5);
  EXPECT_EQ(differs.cached_token, long_prompt(60)[20]);
  request.cache_salt = "other";
  EXPECT_EQ(why(request).reason, "new_salt");
  EXPECT_GT(engine->drop_prefix(long_prompt(32), ""), 0U);
  request = of_prompt(long_prompt(60));
  EXPECT_EQ(why(request).reason, "dropped");
  EXPECT_FALSE(engine->prefix_report(999));
}

TEST(Prefix, WhatIsSharedBeforeRowsGoAndThatItSaysSo) {
  EngineOptions options = base_options();
  options.kv.prefix_caching = true;
  options.kv.policy = "snapkv:recent=8,window=8";
  options.kv.keep = "40";
  options.n_sequences = 2;  // memory for what is shared beside what stays
  auto engine = open_engine(options);
  const Request request = of_prompt(long_prompt(90));
  const auto report = [&] {
    const auto id = engine->submit(request);
    while (!engine->idle()) EXPECT_TRUE(engine->step());
    return *engine->prefix_report(*id);
  };
  EXPECT_EQ(report().n_cached_tokens, 0U);
  const PrefixReport second = report();
  EXPECT_EQ(second.reason, "policy");
  EXPECT_EQ(second.n_cached_tokens, 80U);  // whole blocks before the queries that count, from 82 on
  EXPECT_EQ(second.token, long_prompt(90)[80]);
  options.kv.policy = "h2o:every=0";
  engine = open_engine(options);
  EXPECT_EQ(report().reason, "policy");
  EXPECT_EQ(report().n_cached_tokens, 0U);
  EXPECT_EQ(engine->stats().kv_bytes, 0U);  // rows that nobody may take over are not kept
}

TEST(Prefix, SaysWhenAndForWhomARowWent) {
  EngineOptions options = base_options();
  options.n_sequences = 1;  // memory for one of the full context
  options.kv.prefix_caching = true;
  auto engine = open_engine(options);
  const auto run = [&](Request request) {
    const auto id = engine->submit(std::move(request));
    while (!engine->idle()) EXPECT_TRUE(engine->step());
    return *engine->prefix_report(*id);
  };
  Request mine = of_prompt(long_prompt(60));
  mine.cache_salt = "q";
  EXPECT_FALSE(run(mine).gone);
  Request other = of_prompt(long_prompt(150));
  other.cache_salt = "r";
  const PrefixReport pushes = run(other);
  const PrefixReport evicted = run(mine);
  EXPECT_EQ(evicted.reason, "evicted");
  ASSERT_TRUE(evicted.gone);
  EXPECT_EQ(evicted.gone->by_request, pushes.request);
  EXPECT_GE(evicted.gone->step, pushes.step);
  EXPECT_LT(evicted.gone->step, evicted.step);
  EXPECT_GE(evicted.gone->seconds_ago, 0);
  EXPECT_GT(engine->drop_prefix({}, "q"), 0U);
  const PrefixReport dropped = run(mine);
  EXPECT_EQ(dropped.reason, "dropped");
  EXPECT_EQ(dropped.gone->by_request, 0U);
  EXPECT_GE(dropped.gone->step, evicted.step);
}

TEST(Prefix, SealedBlocksAreSharedAsAWholeAndOpenOnesToTheToken) {
  EngineOptions options = base_options(kInt8);
  options.kv.prefix_caching = true;
  auto engine = open_engine(options);
  const auto run = [&](Request request) {
    const auto id = engine->submit(std::move(request));
    while (!engine->idle()) EXPECT_TRUE(engine->step());
    return *engine->prefix_report(*id);
  };
  std::vector<std::int32_t> prompt = {1};
  while (prompt.size() < 60) prompt.push_back(static_cast<int>(3 + prompt.size() * 7 % 77));
  Request request = of_prompt(prompt);
  request.max_tokens = 1;
  run(request);  // 48 rows in whole blocks, 12 in an open one
  EXPECT_EQ(run(request).n_cached_tokens, 59U);
  request.prompt[52] = 5;
  EXPECT_EQ(run(request).n_cached_tokens, 52U);
  request.prompt = prompt;
  request.prompt[20] = 5;
  const PrefixReport inside = run(request);
  EXPECT_EQ(inside.n_cached_tokens, 16U);
  EXPECT_EQ(inside.reason, "sealed");
  EXPECT_EQ(inside.token, prompt[16]);
  EXPECT_EQ(inside.cached_token, -1);
  EXPECT_EQ(inside.format, "int8");
}

TEST(Prefix, PinnedPrefixesOutlastOthersWithinTheBudget) {
  EngineOptions options = base_options();
  options.n_sequences = 2;
  options.kv.prefix_caching = true;
  auto engine = open_engine(options);
  const auto prompt = long_prompt(100);
  EXPECT_EQ(*engine->pin_prefix(prompt, ""), 0U);
  run_to_end(*engine, of_prompt(prompt));
  EXPECT_EQ(*engine->pin_prefix(prompt, ""), 96U);
  std::mt19937 random(3);
  for (int i = 0; i < 20; ++i) {
    auto other = long_prompt(140);
    for (std::size_t k = 1; k < other.size(); ++k)
      other[k] = static_cast<int>(3 + draw(random, 500));
    run_to_end(*engine, of_prompt(other));
  }
  EXPECT_GE(run_to_end(*engine, of_prompt(prompt)).n_reused, 96U);
  auto longer = long_prompt(155);
  longer[1] = 7;
  run_to_end(*engine, of_prompt(longer));
  const auto refused = engine->pin_prefix(longer, "");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("for good"), std::string::npos);
  EXPECT_EQ(engine->unpin_prefix(prompt, ""), 96U);
  EXPECT_EQ(engine->cache_view().n_pinned_stripes, 0U);
}

TEST(Prefix, TheViewAddsUp) {
  EngineOptions options = base_options();
  options.n_sequences = 3;
  options.kv.prefix_caching = true;
  auto engine = open_engine(options);
  run_to_end(*engine, of_prompt(long_prompt(80)));
  Outcomes outcomes;
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(engine->submit(of_prompt(long_prompt(80 + 20 * i))));
  step(*engine, outcomes);
  const CacheView view = engine->cache_view();
  ASSERT_EQ(view.sequences.size(), 2U);
  EXPECT_EQ(view.bytes, engine->stats().kv_bytes);
  EXPECT_EQ(view.format, "bf16");
  EXPECT_GE(view.sequences[0].n_reused_tokens, 79U);
  std::uint32_t n_layers = 0;
  for (const auto& layers : view.sequences[0].layers) n_layers += layers.n_layers;
  EXPECT_EQ(n_layers, 5U);
  EXPECT_EQ(view.sequences[0].layers[0].n_shared, view.sequences[0].layers[0].n_blocks);
  EXPECT_GT(view.tree_bytes, view.idle_bytes);
}

}  // namespace
}  // namespace larder
