// Policies that requests name: what they may say, what comes of it, and who shares what.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/policy_store.h"
#include "engine/request_runs.h"
#include "engine/schedule_runs.h"

namespace larder {
namespace {

using namespace schedule;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string answer(Engine& engine, const Request& request) {
  const auto id = engine.submit(request);
  if (!id) return id.error().message;
  engine.cancel(*id);
  return "accepted";
}

TEST(RequestPolicy, SaysWhatARequestMayNotAskFor) {
  auto engine = open_engine(base_options());
  EXPECT_EQ(answer(*engine, under("knorm:sinks=2,recent=4", "30")), "accepted");
  EXPECT_EQ(answer(*engine, under("none", "")), "accepted");
  EXPECT_EQ(answer(*engine, under("full", "")), "accepted");
  EXPECT_THAT(answer(*engine, under("none", "30")), HasSubstr("every row stays"));
  EXPECT_THAT(answer(*engine, under("knorm", "")), HasSubstr("needs a kv_keep"));
  EXPECT_THAT(answer(*engine, under("nothing", "30")), HasSubstr("kv_policy 'nothing' is not"));
  EXPECT_THAT(answer(*engine, under("knorm:often=3", "64")), HasSubstr("no parameter 'often'"));
  EXPECT_THAT(answer(*engine, under("knorm:every=-1", "64")), HasSubstr("every must be from"));
  EXPECT_THAT(answer(*engine, under("knorm", "36")), HasSubstr("36 tokens, but 4 first and 32"));
  EXPECT_THAT(answer(*engine, under("knorm", "many")), HasSubstr("kv_keep must be a share"));
  EXPECT_THAT(answer(*engine, under("knorm", "1K")), HasSubstr("stay in any case"));
  EXPECT_THAT(answer(*engine, under("lm-infinite:sinks=64,every=16", "96")),
              HasSubstr("64 sinks at a capped distance"));
  EXPECT_THAT(answer(*engine, under("fastgen", "64M")), HasSubstr("as many rows as it needs"));
  EXPECT_THAT(answer(*engine, under("kvzip:chunk=0", "64")), HasSubstr("chunk is 0"));
  EXPECT_THAT(answer(*engine, under("snapkv:recent=8", "64")), HasSubstr("recent must be window"));
  EXPECT_THAT(answer(*engine, under("knorm:sinks=2,sinks=3", "64")), HasSubstr("named twice"));
  EXPECT_THAT(answer(*engine, under(std::string(300, 'x'), "30")), HasSubstr("at most 256"));
  EXPECT_THAT(answer(*engine, under("knorm", std::string(40, '1'))), HasSubstr("at most 32"));
  Request keeps = of_prompt(20);
  keeps.kv_keep = "30";
  EXPECT_THAT(answer(*engine, keeps), HasSubstr("there is no kv_policy"));
  keeps.kv_keep.reset();
  keeps.kv_policy = "";
  EXPECT_THAT(answer(*engine, keeps), HasSubstr("kv_policy '' is not known"));
}

TEST(RequestPolicy, NamesNoFiles) {
  const ScratchDir dir;
  dir.write("p.yaml", "method: knorm\n");
  auto engine = open_engine(base_options());
  EXPECT_THAT(answer(*engine, under(dir.path("p.yaml"), "64")),
              AllOf(HasSubstr("is a file"), Not(HasSubstr("cannot read"))));
  EXPECT_THAT(answer(*engine, under("knorm:heads=/etc/passwd", "64")),
              HasSubstr("cannot be named here"));
  EXPECT_THAT(answer(*engine, under("duo-attention", "64")), HasSubstr("names no files"));
  // But a budget of its own under the server's.
  EngineOptions options = base_options(kClasses);
  engine = open_engine(options);
  Request request = of_prompt(90);
  request.kv_keep = "40";
  EXPECT_EQ(answer(*engine, request), "accepted");
  // And the server's own policy, by the name that clients are told: the file without its folder.
  std::string name{kClasses.policy};
  const std::size_t heads = name.find("heads=") + 6;
  name.erase(heads, name.rfind('/') + 1 - heads);
  request.kv_policy = name;
  EXPECT_EQ(answer(*engine, request), "accepted");
  request.kv_policy = kClasses.policy;
  EXPECT_THAT(answer(*engine, request), HasSubstr("cannot be named here"));
}

TEST(RequestPolicy, WhatReadsInPartIsTheServers) {
  auto engine = open_engine(base_options());
  EXPECT_THAT(answer(*engine, under("quest", "64")),
              AllOf(HasSubstr("all requests of a server"), HasSubstr("this one has none")));
  engine = open_engine(base_options(kQuest));
  EXPECT_EQ(answer(*engine, under(kQuest.policy, kQuest.keep)), "accepted");
  EXPECT_EQ(answer(*engine, under(kQuest.policy, "")), "accepted");
  EXPECT_THAT(answer(*engine, under(kQuest.policy, "64")), HasSubstr("has quest:full-layers=1"));
  EXPECT_THAT(answer(*engine, under("infllm:sinks=16,recent=16", "64")),
              HasSubstr("all requests of a server"));
  EXPECT_THAT(answer(*engine, under("knorm", "64")), HasSubstr("all requests of a server"));
  EXPECT_THAT(answer(*engine, under("none", "")), HasSubstr("all requests read in part"));
}

TEST(RequestPolicy, FormatsAndModelsRefuseWhatTheyRefuseAtStart) {
  auto engine = open_engine(base_options(kInt8));
  // Ten tokens: this model has eighty words.
  EXPECT_THAT(answer(*engine, under("ada-snapkv", "64", 10)), HasSubstr("need raw formats"));
  EXPECT_EQ(answer(*engine, under("snapkv", "64", 10)), "accepted");
  engine = open_engine(base_options(kLatent));
  EXPECT_THAT(answer(*engine, under("knorm", "64", 10)), HasSubstr("latent attention"));
  EXPECT_EQ(answer(*engine, under("window", "64", 10)), "accepted");
}

TEST(RequestPolicy, MemoryIsCountedByTheRequestsOwnPolicy) {
  EngineOptions options = base_options();
  options.n_context = 1024;
  options.kv.policy = "streaming-llm:every=16";
  options.kv.keep = "40";
  auto engine = open_engine(options);  // memory for 56 rows
  EXPECT_THAT(answer(*engine, under("none", "")),
              AllOf(HasSubstr("stores up to"), HasSubstr("96 tokens")));
  Request request = under("none", "", 20);
  request.max_tokens = 20;
  EXPECT_EQ(answer(*engine, request), "accepted");
  EXPECT_EQ(answer(*engine, under("window:every=8", "32")), "accepted");
  EXPECT_THAT(answer(*engine, under("snapkv", "40")), HasSubstr("stores up to"));  // loads it all
  request.max_tokens = 0;  // until the context is full
  EXPECT_THAT(answer(*engine, request), HasSubstr("1024 tokens"));
}

TEST(RequestPolicy, WithoutFieldsTheServersOwnApply) {
  EngineOptions options = base_options();
  options.kv.policy = "knorm:sinks=2,recent=4,every=16";
  options.kv.keep = "32";
  options.n_sequences = 4;
  auto engine = open_engine(options);
  const Ended own = run_one(*engine, of_prompt(90));
  EXPECT_EQ(own.usage.n_tokens, 95U);
  EXPECT_DOUBLE_EQ(own.usage.n_kept_tokens, 37.0);  // 32 at the prompt's end, 5 behind it
  const Ended full = run_one(*engine, under("none", ""));
  EXPECT_DOUBLE_EQ(full.usage.n_kept_tokens, 95.0);
  EXPECT_GT(full.usage.bytes, own.usage.bytes);
  Request keeps = of_prompt(90);
  keeps.kv_keep = "48";
  EXPECT_DOUBLE_EQ(run_one(*engine, keeps).usage.n_kept_tokens, 53.0);
  EXPECT_EQ(run_one(*engine, under("knorm:sinks=2,recent=4,every=16", "32")).outcome, own.outcome);
  keeps.kv_keep = "0.0001";  // a share is never too small: the protected rows stay
  EXPECT_DOUBLE_EQ(run_one(*engine, keeps).usage.n_kept_tokens, 11.0);
  options.kv.policy = options.kv.keep = "";
  for (const char* none : {"", "none", "full"}) {
    options.kv.policy = none;
    EXPECT_EQ(run_one(*open_engine(options), of_prompt(90)).outcome, full.outcome);
  }
  EXPECT_EQ(engine->stats().kv_bytes, 0U);
}

TEST(RequestPolicy, PoliciesBesideEachOtherGiveWhatEachGivesAlone) {
  const std::pair<const char*, const char*> kNamed[] = {
      {"h2o:every=20", "30"},
      {"streaming-llm:every=16", "40"},
      {"lm-infinite:every=16", "40"},
      {"ada-snapkv:recent=8,window=8,every=20", "30"},
      {"kvzip:recent=5,chunk=20", "0.4"},
      {"keyformer:every=24", "0.4"},
      {"pyramidinfer:recent=6,window=9,every=25", "28"},
      {"d2o:every=27", "0.4"},
      {"fastgen:recover-percent=60", "0.2"},
      {"none", ""}};
  std::mt19937 random(21);
  auto requests = make_requests(random, std::size(kNamed) * 2);
  std::vector<Outcome> expected;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto& [policy, keep] = kNamed[i / 2];
    EngineOptions options = base_options();
    if (*keep != 0) {
      options.kv.policy = policy;
      options.kv.keep = keep;
    }
    requests[i].prompt.resize(std::max<std::size_t>(requests[i].prompt.size(), 45), 7);
    expected.push_back(run_alone({requests[i]}, options).front());
    requests[i].kv_policy = policy;
    if (*keep != 0) requests[i].kv_keep = keep;
  }
  std::uint64_t n_preempted = 0;
  for (int round = 0; round < 8; ++round) {
    EngineOptions options = random_options(random);
    options.n_batch = std::max(options.n_batch, 6U);
    options.n_sequences = 6;
    options.kv.prefix_caching = round % 2 == 1;
    options.n_context = 220;  // memory for one that reads again
    if (round >= 4) {
      EngineOptions one = options;
      one.n_sequences = 1;
      options.kv.memory_bytes = open_engine(one)->stats().kv_budget_bytes;
    }
    auto engine = open_engine(options);
    SCOPED_TRACE(testing::Message() << "round " << round << ", n_batch " << options.n_batch);
    std::map<Key, Outcome> outcomes;
    for (const Request& r : requests) ASSERT_TRUE(engine->submit(r));
    while (!engine->idle()) {
      const auto report = engine->step();
      ASSERT_TRUE(report) << report.error().message;
      collect(*report, outcomes);
      expect_bytes_add_up(*engine);
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ((outcomes[{i + 1, 0}]), expected[i]) << *requests[i].kv_policy;
    }
    n_preempted += engine->stats().n_preempted;
    engine->drop_prefix({}, "");
    EXPECT_EQ(engine->stats().kv_bytes, 0U);
  }
  EXPECT_GT(n_preempted, 0U);
}

TEST(PolicyStore, RemembersThoseInUseAndTheLastOnes) {
  PolicyStore store;
  const auto key = [](std::uint32_t seed) {
    PolicyKey of;
    of.policy.seed = seed;
    return of;
  };
  const auto made = [] { return std::make_shared<SequencePolicy>(RowPlan{}, "none"); };
  const auto used = made();
  store.add(key(0), used);
  for (std::uint32_t seed = 1; seed <= 40; ++seed) store.add(key(seed), made());
  EXPECT_EQ(store.size(), PolicyStore::kMost);
  EXPECT_EQ(store.find(key(0)), used);
  EXPECT_EQ(store.find(key(1)), nullptr);
  EXPECT_NE(store.find(key(40)), nullptr);
  std::vector<std::shared_ptr<SequencePolicy>> held;
  for (std::uint32_t seed = 100; seed < 120; ++seed) {
    held.push_back(made());
    store.add(key(seed), held.back());
  }
  EXPECT_EQ(store.size(), 21U);  // all in use
}

TEST(RequestPolicy, ManyPoliciesLeaveNothingBehind) {
  auto engine = open_engine(base_options());
  for (int seed = 0; seed < 60; ++seed) {
    const std::string policy = "random:recent=2,every=16,seed=" + std::to_string(seed);
    EXPECT_EQ(answer(*engine, under(policy, "20", 40)), "accepted");
  }
  EXPECT_EQ(engine->stats().kv_bytes, 0U);
}

TEST(RequestPolicy, ShortTextsAreReadAgainInRoomForThemAlone) {
  EngineOptions options = base_options();
  options.n_context = 1024;  // its default memory holds one text of that length, read once
  options.n_sequences = 1;
  auto engine = open_engine(options);
  EXPECT_EQ(answer(*engine, under("kvzip", "64", 120)), "accepted");
}

TEST(KeepTotal, IsSharedOutToTheSequences) {
  EngineOptions options = base_options();
  options.n_context = 1024;
  options.n_sequences = 4;
  auto engine = open_engine(options);
  const std::uint64_t of_row = engine->kv_bytes_per_token();
  options.kv.policy = "knorm:sinks=2,recent=4,every=32";
  options.kv.keep_total_bytes = 4 * 128 * of_row;
  engine = open_engine(options);
  Request request = of_prompt(768);
  const Ended ended = run_one(*engine, request);
  EXPECT_DOUBLE_EQ(ended.usage.n_kept_tokens, 128.0 + 5);
  EXPECT_THAT(engine->description(), HasSubstr("bytes a sequence kept"));
  request.kv_policy = "keydiff:recent=4,every=32";
  EXPECT_DOUBLE_EQ(run_one(*engine, request).usage.n_kept_tokens, 128.0 + 5);
  request.kv_keep = "64";
  EXPECT_THAT(answer(*engine, request), HasSubstr("of all sequences together"));
  EXPECT_THAT(answer(*engine, under("none", "")), HasSubstr("of all sequences together"));
  EXPECT_THAT(answer(*engine, under("fastgen", "")), HasSubstr("as many rows as they need"));
  const auto refusal = [](EngineOptions o) {
    const auto opened = Engine::open(o);
    return opened ? "accepted" : opened.error().message;
  };
  options.kv.keep = "64";
  EXPECT_THAT(refusal(options), HasSubstr("two budgets"));
  options.kv.keep = "";
  options.kv.policy = "fastgen";
  EXPECT_THAT(refusal(options), HasSubstr("as many rows as it needs"));
  options.kv.policy = "";
  EXPECT_THAT(refusal(options), HasSubstr("there is no kv-policy"));
  options.kv.policy = "knorm";
  options.kv.keep_total_bytes = 3;
  EXPECT_THAT(refusal(options), HasSubstr("less than one for each"));
}

}  // namespace
}  // namespace larder
