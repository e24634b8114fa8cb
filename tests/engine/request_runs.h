// Requests under policies of their own, one after the other.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <map>
#include <string>

#include "engine/schedule_runs.h"
#include "larder/engine.h"

namespace larder::schedule {

inline Request of_prompt(std::size_t n, int salt = 0) {
  Request request;
  request.prompt = {1};
  while (request.prompt.size() < n) {
    request.prompt.push_back(3 + static_cast<int>(request.prompt.size() * 7 + salt) % 500);
  }
  request.max_tokens = 6;
  request.ignore_eos = true;
  request.n_logprobs = 0;
  request.sampling.temperature = 0;
  return request;
}

inline Request under(const std::string& policy, const std::string& keep, std::size_t n = 90) {
  Request request = of_prompt(n);
  request.kv_policy = policy;
  if (!keep.empty()) request.kv_keep = keep;
  return request;
}

struct Ended {
  Outcome outcome;
  CacheUsage usage;
  std::uint32_t n_reused = 0;
  RequestId id = 0;
};

inline Ended run_one(Engine& engine, const Request& request) {
  std::map<Key, Outcome> outcomes;
  Ended ended;
  const auto id = engine.submit(request);
  EXPECT_TRUE(id) << id.error().message;
  if (!id) return ended;
  ended.id = *id;
  while (!engine.idle()) {
    const auto report = engine.step();
    EXPECT_TRUE(report);
    collect(*report, outcomes);
    for (const TokenEvent& event : report->events) {
      ended.n_reused = event.n_reused_tokens;
      if (event.cache) ended.usage = *event.cache;
    }
  }
  ended.outcome = outcomes[{ended.id, 0}];
  return ended;
}

}  // namespace larder::schedule
