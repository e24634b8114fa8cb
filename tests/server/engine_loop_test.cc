// The engine's thread: many requests at once, bounded queues, readers that leave.
#include "server/engine_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "server/test_server.h"

namespace larder {
namespace {

using testing::HasSubstr;

LoopRequest ask(const Engine& engine, const std::string& text, std::uint32_t max_tokens,
                std::uint64_t seed = 0) {
  LoopRequest request;
  request.request.prompt = engine.tokenizer().encode(text, {});
  request.request.max_tokens = max_tokens;
  request.request.ignore_eos = true;
  request.request.sampling.temperature = seed == 0 ? 0.0F : 1.0F;
  request.request.sampling.seed = seed;
  return request;
}

struct Outcome {
  std::map<std::uint32_t, std::vector<std::int32_t>> tokens;  // by place in the group
  std::uint32_t n_reused = 0;
  std::optional<Error> error;
};

Outcome drain(EventChannel& channel) {
  Outcome outcome;
  while (!channel.ended()) {
    channel.wait();
    for (const ChannelEvent& e : channel.take()) {
      outcome.tokens[e.index].push_back(e.event.token);
      outcome.n_reused = e.event.n_reused_tokens;
    }
  }
  outcome.error = channel.error();
  return outcome;
}

TEST(EngineLoopTest, AnswersManyAtOnceAsEachAlone) {
  std::vector<std::vector<std::int32_t>> alone;
  {
    const TestServer s({.n_sequences = 1, .prefix_caching = false});
    s.loop->start();
    for (std::uint32_t seed = 0; seed < 12; ++seed) {
      auto channel = s.loop->submit({ask(*s.engine, "Once upon a time", 5 + seed, seed)});
      alone.push_back(drain(**channel).tokens[0]);
    }
  }
  const TestServer s({.n_sequences = 3});
  s.loop->start();
  std::vector<std::shared_ptr<EventChannel>> channels;
  for (std::uint32_t seed = 0; seed < 12; ++seed) {
    channels.push_back(*s.loop->submit({ask(*s.engine, "Once upon a time", 5 + seed, seed)}));
  }
  for (std::size_t i = 0; i < channels.size(); ++i) {
    const Outcome outcome = drain(*channels[i]);
    EXPECT_FALSE(outcome.error);
    EXPECT_EQ(outcome.tokens.at(0), alone[i]) << "request " << i;
  }
}

TEST(EngineLoopTest, GroupsShareAChannel) {
  const TestServer s({.n_sequences = 2});
  s.loop->start();
  auto channel = s.loop->submit({ask(*s.engine, "Lily went", 4), ask(*s.engine, "Tom saw", 7)});
  const Outcome outcome = drain(**channel);
  EXPECT_EQ(outcome.tokens.at(0).size(), 4U);
  EXPECT_EQ(outcome.tokens.at(1).size(), 7U);
}

TEST(EngineLoopTest, RefusesWhenTheQueueIsFull) {
  const TestServer s({.n_sequences = 1, .limits = {.n_queued = 2}});
  std::vector<std::shared_ptr<EventChannel>> channels;
  for (int i = 0; i < 3; ++i) channels.push_back(*s.loop->submit({ask(*s.engine, "A dog", 3)}));
  const auto refused = s.loop->submit({ask(*s.engine, "A dog", 3)});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("3 requests are unfinished"));
  EXPECT_GE(s.loop->retry_after_seconds(), 1U);
  s.loop->start();
  for (const auto& channel : channels) EXPECT_EQ(drain(*channel).tokens.at(0).size(), 3U);
  ASSERT_TRUE(s.loop->wait_until_done(60));
  EXPECT_TRUE(s.loop->submit({ask(*s.engine, "A dog", 3)}));  // there is room again
}

TEST(EngineLoopTest, MoreThanItEverTakesIsNoMatterOfWaiting) {
  const TestServer s({.n_sequences = 1, .limits = {.n_queued = 2}});
  const auto refused = s.loop->submit(std::vector<LoopRequest>(4, ask(*s.engine, "A dog", 3)));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::invalid_argument);
  EXPECT_THAT(refused.error().message, HasSubstr("4 prompts at once, the server takes 3"));
  EXPECT_TRUE(s.loop->submit(std::vector<LoopRequest>(3, ask(*s.engine, "A dog", 3))));
}

TEST(EngineLoopTest, CountsRequestsAndNotTheirContinuations) {
  const TestServer s({.n_sequences = 3});
  LoopRequest two = ask(*s.engine, "A dog", 20), other = ask(*s.engine, "A cat", 20);
  two.request.n_samples = 2;
  auto channel = *s.loop->submit({two});
  auto beside = *s.loop->submit({other});
  auto queued = *s.loop->submit({other});
  std::vector<LoopStats> seen;
  channel->notify([&] { seen.push_back(s.loop->stats()); });  // as of the end of the step before
  s.loop->start();
  ASSERT_TRUE(s.loop->wait_until_done(60));
  s.loop->stop();
  ASSERT_GT(seen.size(), 6U);
  EXPECT_EQ(seen[6].engine.n_running, 3U);  // in the fourth step
  EXPECT_EQ(seen[6].n_running, 2U);
  EXPECT_EQ(seen[6].n_waiting, 1U);
  EXPECT_EQ(s.loop->stats().n_running, 0U);
  EXPECT_EQ(s.loop->stats().n_waiting, 0U);
}

TEST(EngineLoopTest, WhatTheEngineRefusesEndsItsChannelOnly) {
  const TestServer s({.n_sequences = 1});
  LoopRequest bad = ask(*s.engine, "A dog", 3);
  bad.request.n_samples = 5;  // more than run at once
  auto first = s.loop->submit({ask(*s.engine, "A dog", 3)});
  auto second = s.loop->submit({bad});
  auto third = s.loop->submit({ask(*s.engine, "A dog", 3)});
  s.loop->start();
  EXPECT_FALSE(drain(**first).error);
  const Outcome refused = drain(**second);
  ASSERT_TRUE(refused.error);
  EXPECT_THAT(refused.error->message, HasSubstr("n_samples is 5"));
  EXPECT_FALSE(drain(**third).error);
  EXPECT_TRUE(s.loop->wait_until_done(60));
}

TEST(EngineLoopTest, CancelsWhatNobodyReads) {
  const TestServer s({.n_sequences = 2, .prefix_caching = false});
  auto running = *s.loop->submit({ask(*s.engine, "A dog", 100)});
  auto beside = *s.loop->submit({ask(*s.engine, "A cat", 3)});
  auto queued = *s.loop->submit({ask(*s.engine, "A dog", 100)});
  beside->notify([&] {  // on the loop's thread: however fast it is, the others are not done
    running->abandon();
    queued->abandon();
  });
  s.loop->start();
  EXPECT_EQ(drain(*beside).tokens.at(0).size(), 3U);
  ASSERT_TRUE(s.loop->wait_until_done(60));
  s.loop->stop();
  EXPECT_EQ(s.loop->stats().engine.kv_bytes, 0U);
  EXPECT_LT(s.loop->stats().engine.n_decode_tokens, 10U);  // not two hundred
}

TEST(EngineLoopTest, DropsReadersThatFallBehind) {
  const TestServer s({.n_sequences = 1, .limits = {.channel_events = 5}});
  auto channel = *s.loop->submit({ask(*s.engine, "A dog", 50)});
  s.loop->start();
  ASSERT_TRUE(s.loop->wait_until_done(60));
  const Outcome outcome = drain(*channel);
  EXPECT_EQ(outcome.tokens.at(0).size(), 5U);
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->code, Errc::unavailable);
}

TEST(EngineLoopTest, DropsReadersThatFallBehindInBytes) {
  const TestServer s({.n_sequences = 1, .limits = {.channel_bytes = 20000}});
  LoopRequest request = ask(*s.engine, "A dog", 50);
  request.request.n_logprobs = 20;
  auto channel = *s.loop->submit({request});
  s.loop->start();
  ASSERT_TRUE(s.loop->wait_until_done(60));
  const Outcome outcome = drain(*channel);
  EXPECT_LT(outcome.tokens.at(0).size(), 10U);
  EXPECT_TRUE(outcome.error);
}

TEST(EngineLoopTest, SharesPrefixesOfTheSameSaltAlone) {
  const TestServer s({.n_sequences = 1});
  s.loop->start();
  const std::string text = "Once upon a time there was a little girl named Lily who had a dog";
  const auto go = [&](const std::string& salt) {
    LoopRequest request = ask(*s.engine, text, 6);
    request.request.cache_salt = salt;
    return drain(**s.loop->submit({request}));
  };
  const std::size_t n_prompt = s.engine->tokenizer().encode(text, {}).size();
  const Outcome first = go("tenant 1"), other = go(std::string("tenant\0 2", 9)),
                again = go("tenant 1");
  EXPECT_EQ(first.n_reused, 0U);
  EXPECT_EQ(other.n_reused, 0U);
  EXPECT_EQ(again.n_reused, n_prompt - 1);  // the last one's logits are wanted
  EXPECT_EQ(first.tokens, again.tokens);
  EXPECT_EQ(first.tokens, other.tokens);
}

TEST(EngineLoopTest, DrainFinishesWhatWasAccepted) {
  const TestServer s({.n_sequences = 1});
  auto channel = *s.loop->submit({ask(*s.engine, "A dog", 20)});
  s.loop->drain();
  const auto refused = s.loop->submit({ask(*s.engine, "A dog", 3)});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("shutting down"));
  s.loop->start();
  EXPECT_EQ(drain(*channel).tokens.at(0).size(), 20U);
  EXPECT_TRUE(s.loop->wait_until_done(60));
}

TEST(EngineLoopTest, StopReturnsWhatRunsAndWhatWaits) {
  const TestServer s({.n_sequences = 1, .prefix_caching = false});
  auto running = *s.loop->submit({ask(*s.engine, "A dog", 100)});
  auto queued = *s.loop->submit({ask(*s.engine, "A dog", 100)});
  std::promise<void> begun;
  running->notify([&, first = true]() mutable {
    if (std::exchange(first, false)) begun.set_value();
    while (!s.loop->draining()) std::this_thread::yield();  // holds the loop until it is to stop
  });
  s.loop->start();
  begun.get_future().wait();
  s.loop->stop();
  for (const auto& channel : {running, queued}) {
    const Outcome outcome = drain(*channel);
    ASSERT_TRUE(outcome.error);
    EXPECT_EQ(outcome.error->code, Errc::unavailable);
    EXPECT_EQ(outcome.tokens.count(0), channel == running ? 1U : 0U);
  }
  EXPECT_EQ(s.loop->stats().engine.kv_bytes, 0U);
  EXPECT_EQ(s.loop->stats().n_unfinished, 0U);
}

TEST(EngineLoopTest, StopWithoutStartReturnsTheQueue) {
  const TestServer s({.n_sequences = 1});
  auto channel = *s.loop->submit({ask(*s.engine, "A dog", 10)});
  s.loop->stop();
  EXPECT_TRUE(drain(*channel).error);
}

TEST(EngineLoopTest, NotifiesOfEveryChange) {
  const TestServer s({.n_sequences = 1});
  auto channel = *s.loop->submit({ask(*s.engine, "A dog", 5)});
  std::atomic<int> n_calls = 0;
  channel->notify([&] { ++n_calls; });
  s.loop->start();
  drain(*channel);
  s.loop->stop();
  EXPECT_EQ(n_calls, 6);  // five tokens and the end
  channel->notify([&] { ++n_calls; });
  EXPECT_EQ(n_calls, 7);  // a late one hears at once
}

/// Which of two that wait is answered first, by the moment its first token comes.
std::vector<std::size_t> order_of_ends(const TestServer& s, std::vector<LoopRequest> requests) {
  std::vector<std::size_t> order;
  std::mutex mutex;
  std::vector<std::shared_ptr<EventChannel>> channels;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    channels.push_back(*s.loop->submit({std::move(requests[i])}));
    channels.back()->notify([&, i] {
      const std::lock_guard lock(mutex);
      if (std::find(order.begin(), order.end(), i) == order.end()) order.push_back(i);
    });
  }
  s.loop->start();
  EXPECT_TRUE(s.loop->wait_until_done(60));
  s.loop->stop();
  return order;
}

TEST(EngineLoopTest, TheLowestPriorityNumberGoesFirst) {
  const TestServer s({.n_sequences = 1});
  std::vector<LoopRequest> requests;
  for (const int priority : {5, 0, -3, 0}) {
    requests.push_back(ask(*s.engine, "A dog", 2));
    requests.back().priority = priority;
  }
  EXPECT_THAT(order_of_ends(s, std::move(requests)), testing::ElementsAre(2, 1, 3, 0));
}

TEST(EngineLoopTest, WhoIsOvertakenOftenEnoughGetsItsTurn) {
  const TestServer s({.n_sequences = 1});
  std::vector<LoopRequest> requests = {ask(*s.engine, "A dog", 2)};
  requests[0].priority = 1;
  for (std::uint32_t i = 0; i < 2 * kOvertakings; ++i) {
    requests.push_back(ask(*s.engine, "A cat", 2));
  }
  const auto order = order_of_ends(s, std::move(requests));
  EXPECT_EQ(order.at(kOvertakings), 0U);
}

TEST(EngineLoopTest, ATimeoutEndsARequest) {
  const TestServer s({.n_sequences = 1});
  LoopRequest request = ask(*s.engine, "A dog", 100);
  request.timeout_seconds = 1e-9;
  auto late = *s.loop->submit({request});
  auto other = *s.loop->submit({ask(*s.engine, "A dog", 3)});
  s.loop->start();
  const Outcome outcome = drain(*late);
  ASSERT_TRUE(outcome.error);
  EXPECT_THAT(outcome.error->message, HasSubstr("timeout"));
  EXPECT_EQ(drain(*other).tokens.at(0).size(), 3U);
}

TEST(EngineLoopTest, CallsRunBetweenSteps) {
  const TestServer s({.n_sequences = 1});
  EXPECT_FALSE(s.loop->call([](Engine&) { FAIL() << "not started"; }));
  auto channel = *s.loop->submit({ask(*s.engine, "A dog", 20)});
  s.loop->start();
  std::uint64_t budget = 0;
  EXPECT_TRUE(s.loop->call([&](Engine& engine) { budget = engine.stats().kv_budget_bytes; }));
  EXPECT_GT(budget, 0U);
  EXPECT_EQ(drain(*channel).tokens.at(0).size(), 20U);
  s.loop->stop();
  EXPECT_FALSE(s.loop->call([](Engine&) { FAIL() << "stopped"; }));
}

}  // namespace
}  // namespace larder
