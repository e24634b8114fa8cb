// What a policy leaves behind a prompt.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>

#include "engine/schedule_models.h"
#include "larder/engine.h"

namespace larder::schedule {

/// The most probable tokens behind the prompt.
inline std::map<std::int32_t, float> top(const EngineOptions& options, const Request& request) {
  auto engine = open_engine(options);
  EXPECT_TRUE(engine->submit(request));
  std::map<std::int32_t, float> of;
  while (!engine->idle()) {
    const auto report = engine->step();
    for (const TokenEvent& event : report->events) {
      for (const TokenLogprob& t : event.top) of[t.token] = t.logprob;
    }
  }
  return of;
}

/// Bytes of the cache when a prompt of `n` tokens is done.
inline std::uint64_t bytes_behind_prompt(const EngineOptions& options, int n) {
  auto engine = open_engine(options);
  Request request;
  for (int i = 0; i < n; ++i) request.prompt.push_back(3 + i * 7 % 500);
  request.max_tokens = 2;
  request.ignore_eos = true;
  EXPECT_TRUE(engine->submit(request));
  while (engine->step()->events.empty()) continue;
  return engine->stats().kv_bytes;
}

}  // namespace larder::schedule
