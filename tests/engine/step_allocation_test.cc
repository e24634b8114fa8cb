// Counts calls of operator new in this program while sequences decode.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "allocation_counter.h"
#include "larder/engine.h"

namespace larder {
namespace {

TEST(StepAllocation, NoneWhileDecoding) {
  EngineOptions options;
  options.model_path = std::string(LARDER_MODELS_DIR) + "/stories260K.gguf";
  options.n_context = 400;
  options.n_sequences = 3;
  options.n_threads = 2;
  auto engine = Engine::open(options);
  ASSERT_TRUE(engine);
  Request request;
  request.prompt = {1, 403, 407, 261};
  request.max_tokens = 300;
  request.ignore_eos = true;
  request.sampling.temperature = 0;
  ASSERT_TRUE((*engine)->submit(request));
  request.sampling.temperature = 0.9F;
  ASSERT_TRUE((*engine)->submit(request));
  StepReport report;
  for (int i = 0; i < 10; ++i) ASSERT_TRUE((*engine)->step(report));
  bool all = true;
  const std::size_t before = n_allocations;
  for (int i = 0; i < 200; ++i) {
    all = (*engine)->step(report).has_value() && report.events.size() == 2 && all;
  }
  EXPECT_EQ(n_allocations - before, 0U);
  EXPECT_TRUE(all);
}

}  // namespace
}  // namespace larder
