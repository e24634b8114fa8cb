// At which distance queries meet the first rows of a text whose middle was dropped.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "engine/policy_runs.h"
#include "engine/schedule_models.h"

namespace larder {
namespace {

using namespace schedule;

/// With one sink and a cache that is full, LM-Infinite's distance is the one in the cache. With
/// several, all are met at the same distance: their order makes no difference.
TEST(SinkDistance, CappedSinksAreMetAtTheEndOfTheWindow) {
  const Model model{"shallow_f32", 512, 640, 340, "f32", "f32"};
  Request request;
  for (int i = 0; i < 320; ++i) request.prompt.push_back(3 + i * 37 % 500);
  request.max_tokens = 1;
  request.ignore_eos = true;
  request.sampling.temperature = 0;
  request.n_logprobs = 20;
  EngineOptions capped = base_options(model);
  capped.kv.policy = "lm-infinite:sinks=1,every=32";
  capped.kv.keep = "100";
  const auto expect_near = [](const std::map<std::int32_t, float>& of,
                              const std::map<std::int32_t, float>& expected) {
    for (const auto& [token, logprob] : expected) {
      ASSERT_TRUE(of.contains(token)) << token;
      EXPECT_NEAR(of.at(token), logprob, 2e-4) << token;
    }
  };
  Request left = request;  // rows were dropped last behind 288 tokens
  left.prompt.assign(1, request.prompt[0]);
  left.prompt.insert(left.prompt.end(), request.prompt.begin() + 288 - 99, request.prompt.end());
  expect_near(top(capped, request), top(base_options(model), left));

  capped.kv.policy = "lm-infinite:sinks=20,every=32";  // of more than one block
  const auto one = top(capped, request);
  std::reverse(request.prompt.begin(), request.prompt.begin() + 20);
  expect_near(top(capped, request), one);
  capped.kv.policy = "streaming-llm:sinks=20,every=32";
  EXPECT_NE(top(capped, request), one);
}

}  // namespace
}  // namespace larder
