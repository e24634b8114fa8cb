// Invariant 3 among many: what a request gets alone it gets beside 32 others, whether its beginning
// was found cached or not, preempted or not.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "engine/schedule_models.h"
#include "engine/schedule_runs.h"
#include "larder/engine.h"

namespace larder {
namespace {

using namespace schedule;

constexpr std::uint32_t kCrowd = 33;

class CrowdOf : public testing::TestWithParam<Model> {};
INSTANTIATE_TEST_SUITE_P(Models, CrowdOf,
                         testing::Values(kStories, kGemma3, kLatent, kBf16, kMixed, kInt4),
                         testing::PrintToStringParamName());

/// Every other prompt begins as the longest one does.
std::vector<Request> crowd_of(std::mt19937& random, const Model& model) {
  auto requests = make_requests(random, kCrowd, model);
  const std::vector<std::int32_t> longest =
      std::max_element(requests.begin(), requests.end(), [](const Request& a, const Request& b) {
        return a.prompt.size() < b.prompt.size();
      })->prompt;
  for (std::size_t i = 0; i < requests.size(); i += 2) {
    auto& prompt = requests[i].prompt;
    std::copy_n(longest.begin(), prompt.size(), prompt.begin());
    requests[i].prompt_logprobs = false;            // all rows would be computed
    requests[i].max_tokens += model.n_context / 8;  // outgrows what it was admitted for
  }
  return requests;
}

struct Pressure {
  bool prefix_caching;
  bool scarce;
};

void run_crowd(const Model& model, const std::vector<Request>& requests,
               const std::vector<Outcome>& expected, const Pressure& pressure) {
  EngineOptions options = base_options(model);
  options.n_sequences = 1;
  const auto one = open_engine(options)->stats().kv_budget_bytes;
  options.n_sequences = kCrowd;
  options.n_batch = 128;
  options.n_threads = 2;
  options.kv.prefix_caching = pressure.prefix_caching;
  if (pressure.scarce) options.kv.memory_bytes = 3 * one;
  auto engine = open_engine(options);
  for (const Request& request : requests) ASSERT_TRUE(engine->submit(request));
  std::map<Key, Outcome> outcomes;
  std::uint32_t most_running = 0;
  while (!engine->idle()) {
    const auto report = engine->step();
    ASSERT_TRUE(report) << report.error().message;
    collect(*report, outcomes);
    expect_bytes_add_up(*engine);
    most_running = std::max(most_running, engine->stats().n_running);
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ((outcomes[{i + 1, 0}]), expected[i]) << "request " << i;
  }
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.n_reused_tokens > 0, pressure.prefix_caching);
  EXPECT_EQ(stats.n_preempted > 0, pressure.scarce);
  if (!pressure.scarce) {
    EXPECT_GT(most_running, kCrowd / 2);
  }
}

TEST_P(CrowdOf, AloneAndAmongThirtyTwoOthers) {
  std::mt19937 random(61);
  const auto requests = crowd_of(random, GetParam());
  const auto expected = run_alone(requests, base_options(GetParam()));
  for (const Pressure& pressure : {Pressure{false, false}, Pressure{true, false},
                                   Pressure{false, true}, Pressure{true, true}}) {
    SCOPED_TRACE(testing::Message()
                 << "prefix caching " << pressure.prefix_caching << ", scarce " << pressure.scarce);
    run_crowd(GetParam(), requests, expected, pressure);
  }
}

}  // namespace
}  // namespace larder
