// Invariant 3 for texts that are kept to a schema.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "engine/schedule_models.h"
#include "engine/schedule_runs.h"
#include "larder/engine.h"

namespace larder {
namespace {

using namespace schedule;

TEST(Schedule, TextsOfAGrammarAreTheSame) {
  std::mt19937 random(26);
  auto requests = make_requests(random, 8);
  const auto first = open_engine(base_options());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto grammar = first->json_grammar(
        i % 2 == 0 ? R"({"type":"array","items":{"type":"string","maxLength":6},"minItems":3})"
                   : R"({"properties":{"a":{"type":"number"},"b":{}},"required":["a","b"]})");
    ASSERT_TRUE(grammar.has_value()) << grammar.error().message;
    requests[i].grammar = *grammar;
    requests[i].ignore_eos = i % 3 == 0;
    requests[i].max_tokens += 30;
  }
  const auto expected = run_alone(requests);
  std::uint64_t n_preempted = 0;
  for (int round = 0; round < 8; ++round) {
    EngineOptions options = random_options(random);
    options.n_batch = std::max(options.n_batch, 4U);
    options.n_sequences = 4;
    if (round % 2 == 0) options.kv.memory_bytes = first->stats().kv_budget_bytes;
    run_schedule(options, requests, expected, random, &n_preempted);
  }
  EXPECT_GT(n_preempted, 0U);
}

}  // namespace
}  // namespace larder
