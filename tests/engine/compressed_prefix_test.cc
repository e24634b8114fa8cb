// Caches whose rows a policy has dropped, shared by requests under the same policy.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>

#include "engine/compressed_prefixes.h"
#include "engine/request_runs.h"

namespace larder {
namespace {

using namespace schedule;

TEST(CompressedPrefix, KeptCachesGoToTheSamePolicyOnceTheyAreCompressed) {
  EngineOptions options = base_options();
  options.n_sequences = 3;
  auto engine = open_engine(options);
  Request context = under("knorm:sinks=2,recent=4,every=16", "32", 70);
  context.keep_cache = true;
  const RequestId id = run_one(*engine, context).id;
  Request next = context;
  next.keep_cache = false;
  next.reuse = id;
  next.prompt.insert(next.prompt.end(), {9, 10, 11});
  EXPECT_EQ(run_one(*engine, next).n_reused, 70U);
  next.kv_keep = "33";  // another policy
  EXPECT_EQ(run_one(*engine, next).n_reused, 0U);
  next.kv_policy = "none";
  next.kv_keep.reset();
  EXPECT_EQ(run_one(*engine, next).n_reused, 0U);
  engine->release(id);
  // What is not compressed goes to anybody, as far as his own policy lets it.
  Request full = of_prompt(70);
  full.keep_cache = true;
  const RequestId all = run_one(*engine, full).id;
  next.reuse = all;
  EXPECT_EQ(run_one(*engine, next).n_reused, 70U);
  for (const char* policy : {"snapkv:recent=8,window=8", "ada-snapkv:recent=8,window=8"}) {
    next.kv_policy = policy;
    next.kv_keep = "30";
    const Ended shared = run_one(*engine, next);
    EXPECT_EQ(shared.n_reused, 65U) << policy;  // those whose queries count are its own
    Request alone = next;
    alone.reuse = 0;
    EXPECT_EQ(run_one(*engine, alone).outcome, shared.outcome) << policy;
  }
  engine->release(all);
  EXPECT_EQ(engine->stats().kv_bytes, 0U);
}

TEST(CompressedPrefix, CompressedBeginningsAreSharedUnderTheSamePolicyAndBudget) {
  EngineOptions options = base_options();
  options.n_sequences = 4;
  auto alone = open_engine(options);
  options.kv.prefix_caching = true;
  for (const char* policy : {"h2o:every=16", "knorm:recent=4,every=16", "streaming-llm:every=16",
                             "ada-snapkv:recent=8,window=8,every=16", "cam:every=16"}) {
    SCOPED_TRACE(policy);
    auto engine = open_engine(options);
    Request request = under(policy, "32", 100);
    EXPECT_EQ(run_one(*engine, request).n_reused, 0U);
    EXPECT_GT(engine->cache_view().n_compressed, 0U);
    request.prompt.back() = 8;  // another question
    request.prompt.push_back(9);
    const Ended second = run_one(*engine, request);
    // The last place before the ends of both; a window goes on from any row behind it.
    const std::uint32_t n_shared = std::string_view(policy).starts_with("streaming") ? 99 : 96;
    EXPECT_EQ(second.n_reused, n_shared);
    const auto report = engine->prefix_report(second.id);
    ASSERT_TRUE(report);
    EXPECT_EQ(report->n_cached_tokens, n_shared);
    EXPECT_EQ(report->policy, std::string(policy) + ", 32 rows kept");
    EXPECT_EQ(report->usage.n_tokens, second.usage.n_tokens);
    EXPECT_DOUBLE_EQ(report->usage.n_kept_tokens, second.usage.n_kept_tokens);
    EXPECT_EQ(run_one(*alone, request).outcome, second.outcome);
    Request other = request;
    other.kv_keep = "33";
    EXPECT_LT(run_one(*engine, other).n_reused, 33U);  // rows of a full cache
    EXPECT_EQ(run_one(*alone, other).outcome, run_one(*engine, other).outcome);
    other = request;
    other.cache_salt = "other";
    EXPECT_EQ(run_one(*engine, other).n_reused, 0U);
    other = request;  // it differs before the place, and behind an earlier one
    other.prompt[70] = 5;
    const Ended third = run_one(*engine, other);
    EXPECT_GE(third.n_reused, 64U);
    EXPECT_EQ(run_one(*alone, other).outcome, third.outcome);
    for (const char* salt : {"", "other"}) engine->drop_prefix({}, salt);
    EXPECT_EQ(engine->cache_view().n_compressed, 0U);
    EXPECT_EQ(engine->stats().kv_bytes, 0U);
  }
  EXPECT_EQ(alone->stats().kv_bytes, 0U);
}

TEST(CompressedPrefix, TheNextTurnGoesOnFromACompressedWindow) {
  EngineOptions options = base_options();
  options.n_sequences = 2;
  auto alone = open_engine(options);
  options.kv.prefix_caching = true;
  auto engine = open_engine(options);
  Request request = under("streaming-llm:every=16", "32", 90);
  const Ended first = run_one(*engine, request);
  request.prompt.insert(request.prompt.end(), first.outcome.tokens.begin(),
                        first.outcome.tokens.end());
  request.prompt.push_back(9);
  const Ended second = run_one(*engine, request);
  EXPECT_EQ(second.n_reused, 95U);  // the last token drawn had no row
  EXPECT_EQ(run_one(*alone, request).outcome, second.outcome);
}

TEST(CompressedPrefix, WhoComesLaterGoesOnFromOneWhosePromptStillLoads) {
  EngineOptions options = base_options();
  options.n_sequences = 3;
  options.n_batch = 24;
  auto alone = open_engine(options);
  options.kv.prefix_caching = true;
  auto engine = open_engine(options);
  Request first = under("h2o:every=16", "32", 120);
  Request second = first;
  second.prompt[100] = 8;
  std::map<Key, Outcome> outcomes;
  std::map<RequestId, std::uint32_t> n_reused;
  const auto step = [&] {
    const auto report = engine->step();
    ASSERT_TRUE(report);
    collect(*report, outcomes);
    for (const TokenEvent& event : report->events) n_reused[event.request] = event.n_reused_tokens;
  };
  const RequestId a = *engine->submit(first);
  while (engine->cache_view().n_compressed == 0 && !engine->idle()) step();
  ASSERT_FALSE(engine->idle());
  const RequestId b = *engine->submit(second);
  while (!engine->idle()) step();
  EXPECT_EQ(n_reused[a], 0U);
  EXPECT_GE(n_reused[b], 48U);
  EXPECT_EQ((outcomes[{a, 0}]), run_one(*alone, first).outcome);
  EXPECT_EQ((outcomes[{b, 0}]), run_one(*alone, second).outcome);
}

TEST(CompressedPrefix, OnlySoManyAreKeptAndThoseOnlyWhileBlocksAreFree) {
  EngineOptions options = base_options();
  options.n_sequences = 40;
  options.n_batch = 128;
  options.kv.prefix_caching = true;
  auto engine = open_engine(options);
  Request request = under("knorm:recent=4,every=16", "32", 60);
  for (int i = 0; i < 80; ++i) {  // each leaves one
    request.prompt[1] = 3 + i;
    run_one(*engine, request);
    EXPECT_LE(engine->cache_view().n_compressed, CompressedPrefixes::kMost);
  }
  EXPECT_EQ(engine->cache_view().n_compressed, CompressedPrefixes::kMost);
  options.n_sequences = 2;
  engine = open_engine(options);  // memory for two
  for (int i = 0; i < 50; ++i) {
    request.prompt[1] = 3 + i;
    run_one(*engine, request);
    ASSERT_LE(engine->stats().kv_peak_bytes, engine->stats().kv_budget_bytes);
  }
  EXPECT_LT(engine->cache_view().n_compressed, 20U);
  EXPECT_GT(engine->cache_view().n_compressed, 0U);
  engine->drop_prefix({}, "");
  EXPECT_EQ(engine->stats().kv_bytes, 0U);
}

TEST(CompressedPrefix, SamePlacesAreWhatTellsCompressedTextsApart) {
  const EvictionPoints mine{.n_keep = 32, .every = 16, .prompt_end = 100};
  EvictionPoints theirs = mine;
  EXPECT_TRUE(same_until(theirs, mine, 120));
  theirs.prompt_end = 110;
  EXPECT_TRUE(same_until(theirs, mine, 96));
  EXPECT_FALSE(same_until(theirs, mine, 100));  // rows of mine go then
  theirs.prompt_end = 0;
  EXPECT_FALSE(same_until(theirs, mine, 96));
  theirs = mine;
  theirs.n_keep = 33;
  EXPECT_FALSE(same_until(theirs, mine, 96));
}

}  // namespace
}  // namespace larder
