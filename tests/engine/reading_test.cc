// Policies by which generated tokens read some of the cached blocks: the same bits for any
// schedule, those of full attention where everything is chosen, refusals.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "engine/schedule_runs.h"

namespace larder {
namespace {

using namespace schedule;

class ReadingOf : public testing::TestWithParam<Model> {};
INSTANTIATE_TEST_SUITE_P(Policies, ReadingOf,
                         testing::Values(kQuest, kQuestShare, kQuestSealed, kQuestMixed,
                                         kQuestWindows, kRetrieved, kRetrievedSealed,
                                         kRetrievedShare),
                         testing::PrintToStringParamName());

TEST_P(ReadingOf, SameTokensForAnyScheduleChunkAndThreadCount) {
  check_any_schedule(GetParam(), 50, 12);
}

TEST_P(ReadingOf, PreemptionChangesNothing) { check_preemption(GetParam(), 51, 8); }

EngineOptions full_options(const Model& model) {
  EngineOptions options = base_options(model);
  options.kv.policy = options.kv.keep = "";
  return options;
}

TEST_P(ReadingOf, IsFullAttentionWhereAllIsChosenAndOnlyThere) {
  std::mt19937 random(52);
  const auto requests = make_requests(random, 6, GetParam());
  const auto expected = run_alone(requests, full_options(GetParam()));
  EngineOptions options = base_options(GetParam());
  options.kv.keep = std::to_string(options.n_context);
  EXPECT_EQ(run_alone(requests, options), expected);
  options.kv.keep = GetParam().keep;
  EXPECT_NE(run_alone(requests, options), expected);
}

/// What is generated, named as the part of a prompt that chooses, gets the same log-probabilities.
TEST_P(ReadingOf, ScoresTheEndOfAPromptAsItGeneratesIt) {
  std::mt19937 random(53);
  Request request = make_requests(random, 1, GetParam())[0];
  request.prompt.resize(90, 5);
  request.prompt_logprobs = false;
  request.max_tokens = 40;
  const Outcome generated = run_alone({request}, base_options(GetParam()))[0];
  ASSERT_EQ(generated.logprobs.size(), 40U);
  Request scored = request;
  scored.n_read_in_full = 90;
  scored.prompt.insert(scored.prompt.end(), generated.tokens.begin(), generated.tokens.end());
  scored.prompt_logprobs = true;
  scored.prompt_logprobs_begin = 90;
  scored.max_tokens = 1;
  for (const std::uint32_t n_batch : {512U, 9U}) {
    EngineOptions options = base_options(GetParam());
    options.n_batch = n_batch;
    EXPECT_EQ(run_alone({scored}, options)[0].prompt_logprobs, generated.logprobs);
  }
  scored.n_read_in_full = UINT32_MAX;
  EXPECT_NE(run_alone({scored}, base_options(GetParam()))[0].prompt_logprobs, generated.logprobs);
}

/// The next turn computes the reply anew, whose rows read less than those of a prompt do; one that
/// names the same place goes on from all of it.
TEST_P(ReadingOf, GoesOnFromRowsThatReadAlike) {
  std::mt19937 random(54);
  Request first = make_requests(random, 1, GetParam())[0];
  first.prompt.resize(70, 5);
  first.max_tokens = 30;
  first.prompt_logprobs = false;
  const Outcome reply = run_alone({first}, base_options(GetParam()))[0];
  Request next = first;
  next.prompt.insert(next.prompt.end(), reply.tokens.begin(), reply.tokens.end());
  next.prompt.insert(next.prompt.end(), {7, 8, 9});
  for (const std::uint32_t n_full : {UINT32_MAX, 70U}) {
    next.n_read_in_full = n_full;
    const Outcome expected = run_alone({next}, base_options(GetParam()))[0];
    auto engine = open_engine(base_options(GetParam()));
    std::map<Key, Outcome> outcomes;
    Request kept = first;
    kept.keep_cache = true;
    ASSERT_EQ(*engine->submit(kept), 1U);
    while (!engine->idle()) collect(*engine->step(), outcomes);
    Request again = next;
    again.reuse = 1;
    ASSERT_TRUE(engine->submit(again));
    while (!engine->idle()) collect(*engine->step(), outcomes);
    EXPECT_EQ((outcomes[{2, 0}]), expected);
    const std::uint64_t n_reused = engine->stats().n_reused_tokens;
    if (n_full == 70) {
      EXPECT_GE(n_reused, 96U);  // whole blocks of what was cached
      continue;
    }
    EXPECT_LE(n_reused, 70U);
    // Windows have left the first rows.
    EXPECT_TRUE(n_reused >= 64 || std::string_view(GetParam().name).starts_with("gemma"));
  }
}

std::string refusal(const EngineOptions& options) {
  auto engine =
      options.model_path.ends_with(".gguf") ? Engine::open(options) : open_fixture(options);
  return engine ? "accepted" : engine.error().message;
}

TEST(Reading, RefusesWhatItCannotDo) {
  const auto with = [](const Model& model, const char* policy, const char* keep) {
    EngineOptions options = base_options(model);  // blocks of 16 rows
    options.kv.policy = policy;
    options.kv.keep = keep;
    return refusal(options);
  };
  EXPECT_EQ(with(kStories, "quest", "48"), "accepted");
  EXPECT_EQ(with(kStories, "quest", "47"),
            "kv-keep is 47 tokens, 2 blocks of 16, but kv-policy 'quest' reads 3 at least: name 48 "
            "tokens or more");
  EXPECT_NE(with(kStories, "quest", "64M").find("keeps every row"), std::string::npos);
  EXPECT_NE(with(kStories, "quest", "").find("needs a kv-keep"), std::string::npos);
  EXPECT_NE(with(kStories, "quest:sinks=4", "48").find("no parameter 'sinks'; it has: full-layers"),
            std::string::npos);
  EXPECT_NE(with(kStories, "quest:full-layers=5", "48").find("of 5 the first 5 read everything"),
            std::string::npos);
  EXPECT_NE(with(kMistral, "quest", "48").find("no layer whose queries would choose"),
            std::string::npos);
  EXPECT_NE(with(kLatent, "quest", "48").find("latent attention"), std::string::npos);
  EXPECT_NE(with(kInt4, "quest:full-layers=0", "48")
                .find("reads 4 at least (2 raw, its own, and one to choose)"),
            std::string::npos);
}

/// Bounds are two numbers of 16 bits for each channel of a block's keys, in the layers that need
/// them, and the allocator counts them.
TEST(Reading, BoundsTakeTheirBytes) {
  EngineOptions options = base_options(kQuest);
  const auto engine = open_engine(options);
  const ModelConfig& c = engine->config();
  const std::uint64_t with = engine->kv_bytes_per_token();
  const std::uint64_t without = open_engine(full_options(kQuest))->kv_bytes_per_token();
  const std::uint64_t of_block = (4 * std::uint64_t{c.head_dim} + 63) / 64 * 64;
  EXPECT_EQ(16 * (with - without), (c.n_layers - 1) * c.n_kv_heads * of_block);
  EXPECT_NE(engine->description().find("quest:full-layers=1, 48 rows read"), std::string::npos);
}

}  // namespace
}  // namespace larder
