// Counts calls of operator new in this program while sequences decode.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "allocation_counter.h"
#include "larder/engine.h"
#include "model/io/random_model.h"
#include "model/scratch_dir.h"
#include "model/small_random_model.h"

namespace larder {
namespace {

EngineOptions small_options() {
  EngineOptions options;
  options.model_path = std::string(LARDER_MODELS_DIR) + "/stories260K.gguf";
  options.n_context = 400;
  options.n_sequences = 3;
  options.n_threads = 2;
  return options;
}

/// Random weights, packed while loading.
EngineOptions packed_options(const ModelConfig& config = small_dense_config()) {
  static const ScratchDir folder;
  EngineOptions options = small_options();
  options.model_path = folder.path(config.arch + ".gguf");
  EXPECT_TRUE(write_random_model(config, DType::q8_0, options.model_path));
  return options;
}

/// A prompt in several steps beside a sequence that decodes, then both decoding.
void expect_no_allocations(const EngineOptions& options) {
  auto engine = Engine::open(options);
  ASSERT_TRUE(engine) << engine.error().message;
  Request request;
  request.prompt = {1, 403, 407, 261};
  request.ignore_eos = true;
  request.sampling.temperature = 0;
  request.max_tokens = 4;
  StepReport report;
  for (int i = 0; i < 2; ++i) ASSERT_TRUE((*engine)->submit(request));
  while (!(*engine)->idle()) ASSERT_TRUE((*engine)->step(report));  // lists get their size
  request.max_tokens = 300;
  ASSERT_TRUE((*engine)->submit(request));
  request.prompt.assign(100, 403);
  request.max_tokens = 250;
  request.sampling.temperature = 0.9F;
  ASSERT_TRUE((*engine)->submit(request));
  ASSERT_TRUE((*engine)->step(report));
  ASSERT_EQ(report.events.size(), 1U);  // the long prompt goes on
  bool all = true;
  const std::size_t before = n_allocations;
  for (int i = 0; i < 200; ++i) all = (*engine)->step(report).has_value() && all;
  EXPECT_EQ(n_allocations - before, 0U);
  EXPECT_TRUE(all);
  EXPECT_EQ(report.events.size(), 2U);
}

TEST(StepAllocation, NoneInRawBlocks) {
  EngineOptions options = small_options();
  options.n_batch = 16;
  expect_no_allocations(options);
}

TEST(StepAllocation, NoneWherePackedWeightsMeetSealedBlocks) {
  EngineOptions options = packed_options();
  options.n_batch = 16;
  options.kv.type_k = "rot4";
  options.kv.type_v = "int8";
  expect_no_allocations(options);
}

TEST(StepAllocation, NoneInSealedLatents) {
  EngineOptions options = packed_options(small_experts_config());
  options.n_batch = 16;
  options.kv.type_v = "rot4";
  expect_no_allocations(options);
}

TEST(StepAllocation, NoneWhereQueriesChooseWhatTheyRead) {
  EngineOptions options = small_options();
  options.n_batch = 16;
  options.kv.policy = "quest";
  options.kv.keep = "96";
  expect_no_allocations(options);
}

// The tree takes memory for every block that it publishes, and for nothing else.
TEST(StepAllocation, WithPrefixCachingOnlyWhereABlockFills) {
  EngineOptions options = small_options();
  options.kv.prefix_caching = true;
  auto engine = Engine::open(options);
  ASSERT_TRUE(engine);
  Request request;
  request.prompt = {1, 403, 407, 261};
  request.max_tokens = 300;
  request.ignore_eos = true;
  request.sampling.temperature = 0;
  ASSERT_TRUE((*engine)->submit(request));
  StepReport report;
  ASSERT_TRUE((*engine)->step(report));  // the prompt
  std::uint32_t n_rows = 4;
  for (int i = 0; i < 10; ++i, ++n_rows) ASSERT_TRUE((*engine)->step(report));
  int n_filled = 0;
  for (int i = 0; i < 200; ++i) {
    const std::size_t before = n_allocations;
    const bool ok = (*engine)->step(report).has_value();
    const std::size_t n = n_allocations - before;
    ASSERT_TRUE(ok);
    ++n_rows;
    if (n_rows % options.kv.block_tokens == 0) {
      ++n_filled;
    } else {
      EXPECT_EQ(n, 0U) << n_rows << " rows";
    }
  }
  EXPECT_GT(n_filled, 3);
}

}  // namespace
}  // namespace larder
