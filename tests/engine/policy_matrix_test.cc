// Every storage format with every kind of policy: the same bits for any schedule, or refused.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/schedule_models.h"
#include "engine/schedule_runs.h"
#include "model/config.h"

namespace larder {
namespace {

using namespace schedule;

/// What decides about the rows of sealed blocks.
enum class Rows { raw, apart, together, before_rope };

struct Format {
  const char* name;
  Rows rows;
};
constexpr Format kFormats[] = {
    {"f32", Rows::raw},          {"f16", Rows::raw},          {"bf16", Rows::raw},
    {"int8", Rows::apart},       {"int4", Rows::apart},       {"fp8", Rows::apart},
    {"q8_0", Rows::apart},       {"q4_0", Rows::apart},       {"rot2", Rows::apart},
    {"rot3", Rows::apart},       {"rot4", Rows::apart},       {"rot5", Rows::apart},
    {"rot8", Rows::apart},       {"kivi4", Rows::together},   {"kivi2", Rows::together},
    {"kivi8", Rows::together},   {"kvq4", Rows::before_rope}, {"kvq3", Rows::before_rope},
    {"kvq2", Rows::before_rope}, {"kvq4o", Rows::before_rope}};
std::ostream& operator<<(std::ostream& out, const Format& format) { return out << format.name; }

/// What a policy does with rows.
enum class Does {
  moves_blocks,  // whole ones
  drops_rows,    // as many of each head
  slides,        // the same by one row at a time, which is out of step with blocks
  parts_heads,   // other numbers of each, or merges them
  reads_again,   // and then parts heads
  reads_some,    // drops none
};
struct PolicyClass {
  const char* policy;
  const char* keep;
  Does does;
  bool is_even = true;  // layers and heads keep as many rows, so that a budget in bytes is met
};
// Blocks of 32 rows, prompts of up to 192.
constexpr PolicyClass kPolicies[] = {
    {"streaming-llm:sinks=32,every=32", "96", Does::moves_blocks},
    {"lm-infinite:sinks=32,every=64", "96", Does::moves_blocks},
    {"streaming-llm:sinks=3,every=16", "80", Does::slides},
    {"window:every=32", "80", Does::drops_rows},
    {"random:recent=4,every=48", "0.4", Does::drops_rows},
    {"knorm:sinks=2,recent=5,every=48", "80", Does::drops_rows},
    {"keydiff:recent=6,every=0", "0.4", Does::drops_rows},
    {"h2o:every=32", "60", Does::drops_rows},
    {"keyformer:every=48", "0.4", Does::drops_rows},
    {"scissorhands:window=40,every=64", "66", Does::drops_rows},
    {"tova:sinks=1,every=32", "64", Does::drops_rows},
    {"snapkv:recent=8,window=8", "0.4", Does::drops_rows},
    {"pyramidkv:recent=8,window=4,beta=4,every=64", "80", Does::drops_rows, false},
    {"pyramidinfer:recent=6,window=8,every=32", "80", Does::drops_rows, false},
    {"expected-attention:recent=6,every=64", "72", Does::drops_rows},
    {"ada-snapkv:recent=8,window=8,every=32", "72", Does::parts_heads, false},
    {"ada-expected-attention:recent=6,every=48", "0.4", Does::parts_heads, false},
    {"kvzip:sinks=1,recent=5,chunk=70", "0.4", Does::reads_again, false},
    {"fastgen:recover-percent=60", "0.2", Does::parts_heads, false},
    {"cam:every=32", "64", Does::parts_heads},
    {"d2o:every=48", "0.4", Does::parts_heads},
    {"kvmerger:recent=3", "0.3", Does::parts_heads},
    {"keydiff:recent=5,every=48,heads=", "72", Does::parts_heads, false},
    {"duo-attention:sinks=3,every=32,heads=", "72", Does::parts_heads, false},
    {"quest:full-layers=1", "128", Does::reads_some},
    {"infllm:sinks=32,recent=32", "160", Does::reads_some},
};

/// Empty: the two go together; else what the refusal says.
std::string_view refusal(const Format& format, Does does) {
  if (format.rows == Rows::raw) return "";
  if (does == Does::reads_again) return "raw formats";
  if (format.rows == Rows::before_rope) return "before rope";
  if (does == Does::moves_blocks || does == Does::reads_some) return "";
  if (format.rows == Rows::together) return "scales in common";
  if (does == Does::slides) return "hold whole blocks";
  return does == Does::parts_heads ? "raw formats" : "";
}

class PolicyMatrix : public testing::TestWithParam<Format> {
 protected:
  Model model() const {
    const bool turned = GetParam().rows == Rows::before_rope;
    return {"wide_bf16", 512, 320, 192, GetParam().name, turned ? "bf16" : GetParam().name};
  }
  /// Files of heads are the model's.
  std::string policy_text(const PolicyClass& of) const {
    std::string text = of.policy;
    if (text.ends_with("heads=")) text += heads_file();
    return text;
  }
  static std::string heads_file() {
    static const ScratchDir files;
    if (std::filesystem::exists(files.path("heads.tsv"))) return files.path("heads.tsv");
    const ModelConfig config = random_config("wide");
    std::string text;
    for (std::uint32_t l = 0; l < config.n_layers; ++l) {
      for (std::uint32_t h = 0; h < config.n_kv_heads; ++h) {
        text += fmt::format("{} ", 1 + (3 * l + 2 * h) % 5);
      }
      text += "\n";
    }
    files.write("heads.tsv", text);
    return files.path("heads.tsv");
  }
  EngineOptions without_policy() const {
    EngineOptions options = base_options(model());
    options.kv.block_tokens = 32;  // the least that rot3 takes
    return options;
  }
  EngineOptions options_of(const PolicyClass& of) const {
    EngineOptions options = without_policy();
    options.kv.policy = policy_text(of);
    options.kv.keep = of.keep;
    return options;
  }
  bool goes_with(const PolicyClass& of) const { return refusal(GetParam(), of.does).empty(); }
};
INSTANTIATE_TEST_SUITE_P(Formats, PolicyMatrix, testing::ValuesIn(kFormats),
                         testing::PrintToStringParamName());

bool names_file(const PolicyClass& of) { return std::string_view(of.policy).ends_with("heads="); }

/// Two that begin alike, one that does not.
std::vector<Request> matrix_requests() {
  std::vector<Request> requests(3);
  std::mt19937 random(7);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    Request& r = requests[i];
    r.prompt.assign(192 - 7 * i, 1);
    for (std::size_t k = 1; k < r.prompt.size(); ++k) {
      r.prompt[k] = static_cast<std::int32_t>(3 + draw(random, 509));
    }
    if (i == 1) std::copy_n(requests[0].prompt.begin(), 160, r.prompt.begin());
    r.max_tokens = 12;
    r.ignore_eos = true;
    r.n_logprobs = 0;
    r.sampling.temperature = 0.9F;
    r.sampling.seed = 11 + i;
  }
  return requests;
}

/// All of them over one engine, which holds to its budget after every step.
std::vector<Outcome> run_mixed(Engine& engine, const std::vector<Request>& requests,
                               std::mt19937& random) {
  std::map<Key, Outcome> outcomes;
  std::vector<RequestId> ids;
  while (ids.size() < requests.size() || !engine.idle()) {
    while (ids.size() < requests.size() && (engine.idle() || random() % 2 == 0)) {
      const auto id = engine.submit(requests[ids.size()]);
      EXPECT_TRUE(id) << id.error().message;
      if (!id) return {};
      ids.push_back(*id);
    }
    const auto report = engine.step();
    EXPECT_TRUE(report) << report.error().message;
    if (!report) return {};
    collect(*report, outcomes);
    expect_bytes_add_up(engine);
    for (const TokenEvent& event : report->events) {
      if (event.finish == FinishReason::none) continue;
      EXPECT_TRUE(event.cache);
      EXPECT_LE(event.cache->n_kept_tokens, event.cache->n_tokens);
    }
  }
  std::vector<Outcome> in_order;
  for (const RequestId id : ids) in_order.push_back(outcomes[{id, 0}]);
  return in_order;
}

struct Schedule {
  std::uint32_t n_batch, n_sequences;
};
constexpr Schedule kSchedules[] = {{7, 1}, {16, 3}, {61, 6}, {512, 4}};

/// The request by request policies of one engine, mixed with requests that keep everything; first
/// nothing is cached, then prefixes are, of full caches and of compressed ones.
TEST_P(PolicyMatrix, PoliciesOfRequestsGiveWhatAnEngineOfTheirOwnGives) {
  std::vector<Request> requests;
  std::vector<Outcome> expected;
  for (const PolicyClass& of : kPolicies) {
    if (!goes_with(of) || of.does == Does::reads_some || names_file(of)) continue;
    const auto mine = matrix_requests();
    const auto alone = run_alone(mine, options_of(of));
    for (std::size_t i = 0; i < mine.size(); ++i) {
      requests.push_back(mine[i]);
      requests.back().kv_policy = of.policy;
      requests.back().kv_keep = of.keep;
      expected.push_back(alone[i]);
    }
  }
  const auto full = matrix_requests();
  const auto alone = run_alone(full, without_policy());
  requests.insert(requests.end(), full.begin(), full.end());
  expected.insert(expected.end(), alone.begin(), alone.end());
  std::mt19937 random(3);
  const std::uint64_t one = open_engine(without_policy())->stats().kv_budget_bytes;
  for (const Schedule& schedule : kSchedules) {
    SCOPED_TRACE(testing::Message() << "n_batch " << schedule.n_batch);
    EngineOptions options = without_policy();
    options.n_batch = schedule.n_batch;
    options.n_sequences = schedule.n_sequences;
    options.kv.prefix_caching = true;
    options.kv.memory_bytes = 3 * one;  // what is read again stands beside the prompt
    auto engine = open_engine(options);
    for (const char* cached : {"nothing", "prefixes"}) {
      SCOPED_TRACE(testing::Message() << cached << " cached");
      const auto got = run_mixed(*engine, requests, random);
      ASSERT_EQ(got.size(), requests.size());
      for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(got[i], expected[i]) << requests[i].kv_policy.value_or("none") << ", " << i % 3;
      }
    }
    EXPECT_GT(engine->stats().n_reused_tokens, 0U);
    engine->drop_prefix({}, "");
    EXPECT_EQ(engine->stats().kv_bytes, 0U);
  }
}

/// The engine's own policies that no request can name.
TEST_P(PolicyMatrix, PoliciesOfEnginesGiveTheSameForAnySchedule) {
  std::mt19937 random(4);
  for (const PolicyClass& of : kPolicies) {
    if (!goes_with(of) || !(of.does == Does::reads_some || names_file(of))) continue;
    SCOPED_TRACE(of.policy);
    const auto requests = matrix_requests();
    const auto expected = run_alone(requests, options_of(of));
    for (const Schedule& schedule : kSchedules) {
      EngineOptions options = options_of(of);
      options.n_batch = schedule.n_batch;
      options.n_sequences = schedule.n_sequences;
      options.kv.prefix_caching = true;
      auto engine = open_engine(options);
      EXPECT_EQ(run_mixed(*engine, requests, random), expected);
      EXPECT_EQ(run_mixed(*engine, requests, random), expected);
    }
  }
}

TEST_P(PolicyMatrix, WhatDoesNotGoTogetherIsRefusedForEnginesAndForRequests) {
  EngineOptions options = without_policy();
  options.kv.memory_bytes = 3 * open_engine(options)->stats().kv_budget_bytes;
  auto engine = open_engine(options);
  Request request = matrix_requests().front();
  for (const PolicyClass& of : kPolicies) {
    SCOPED_TRACE(of.policy);
    request.kv_policy = policy_text(of);
    request.kv_keep = of.keep;
    const auto submitted = engine->submit(request);
    EXPECT_EQ(submitted.has_value(),
              goes_with(of) && of.does != Does::reads_some && !names_file(of));
    const auto opened = Engine::open(options_of(of));
    EXPECT_EQ(opened.has_value(), goes_with(of))
        << (opened ? std::string(refusal(GetParam(), of.does)) : opened.error().message);
    if (!opened) {
      EXPECT_NE(opened.error().message.find(refusal(GetParam(), of.does)), std::string::npos)
          << opened.error().message;
    }
    if (submitted) continue;
    const std::string_view reason = names_file(of)                ? "cannot be named here"
                                    : of.does == Does::reads_some ? "all requests of a server"
                                                                  : refusal(GetParam(), of.does);
    EXPECT_NE(submitted.error().message.find(reason), std::string::npos)
        << submitted.error().message;
    EXPECT_EQ(submitted.error().message.find("kv-policy"), std::string::npos)
        << submitted.error().message;
  }
}

/// A budget in bytes that is whole blocks is met when rows have gone.
TEST_P(PolicyMatrix, BytesAreTheBudgets) {
  EngineOptions full = without_policy();
  full.n_context = 1024;
  auto engine = open_engine(full);
  const std::uint64_t row_bytes = engine->kv_bytes_per_token();
  const std::uint64_t n_rows = GetParam().rows == Rows::raw ? 352 : 320;
  for (const PolicyClass& of : kPolicies) {
    const bool takes_bytes = !std::string_view(of.policy).starts_with("fastgen") &&
                             !std::string_view(of.policy).starts_with("duo");
    if (!goes_with(of) || of.does == Does::reads_some || names_file(of) || !takes_bytes) continue;
    // In whole blocks only by tokens.
    if (of.does == Does::moves_blocks && GetParam().rows != Rows::raw) continue;
    SCOPED_TRACE(of.policy);
    Request request = matrix_requests().front();
    request.prompt.resize(768, 5);  // a multiple of every `every`
    for (std::size_t k = 180; k < 768; ++k) request.prompt[k] = static_cast<int>(3 + k * 7 % 500);
    request.max_tokens = 2;
    request.kv_policy = of.policy;
    const std::uint64_t n_kib = (n_rows * row_bytes + 1023) / 1024;
    request.kv_keep = fmt::format("{}K", n_kib);
    const auto id = engine->submit(request);
    ASSERT_TRUE(id) << id.error().message;
    while (engine->step()->events.empty()) continue;
    const auto bytes = static_cast<double>(engine->stats().kv_bytes);
    const auto budget = static_cast<double>(n_kib * 1024);
    EXPECT_LE(bytes, budget);
    // Heads and layers of their own begin a block each.
    EXPECT_GE(bytes, (of.is_even ? 0.95 : 0.85) * budget);
    while (!engine->idle()) ASSERT_TRUE(engine->step());
    EXPECT_EQ(engine->stats().kv_bytes, 0U);
  }
}

}  // namespace
}  // namespace larder
