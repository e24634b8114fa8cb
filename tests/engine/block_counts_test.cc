// What the view of the cache says of blocks: each is counted once, by state and by format.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "engine/schedule_models.h"
#include "larder/engine.h"

namespace larder {
namespace {

using namespace schedule;

class BlocksOf : public testing::TestWithParam<Model> {};
INSTANTIATE_TEST_SUITE_P(Models, BlocksOf,
                         testing::Values(kStories, kGemma3, kCla, kLatent, kRotated, kMixed,
                                         kRawLayer, kHeavy, kSplit),
                         testing::PrintToStringParamName());

/// Live blocks by state; also checks that each is counted once.
CacheView::Blocks all_blocks(const Engine& engine) {
  const CacheView view = engine.cache_view();
  CacheView::Blocks all;
  std::uint64_t bytes = 0;
  for (const CacheView::Blocks& b : view.blocks) {
    bytes += (b.n_open + b.n_sealed + b.n_shared + b.n_kept) * b.bytes;
    all.n_open += b.n_open;
    all.n_sealed += b.n_sealed;
    all.n_shared += b.n_shared;
    all.n_kept += b.n_kept;
  }
  EXPECT_EQ(bytes, view.bytes);
  return all;
}

TEST_P(BlocksOf, AreCountedByState) {
  const Model& model = GetParam();
  for (const bool shares : {true, false}) {
    EngineOptions options = base_options(model);
    options.n_sequences = 3;
    options.kv.prefix_caching = shares;
    auto engine = open_engine(options);
    for (const std::int32_t second : {7, 7, 9}) {  // two begin alike
      Request request;
      request.prompt.assign(40, 5);  // two blocks and a half
      request.prompt[1] = second;
      request.max_tokens = 4;
      request.ignore_eos = true;
      ASSERT_TRUE(engine->submit(request));
    }
    std::size_t most_open = 0;
    while (!engine->idle()) {
      ASSERT_TRUE(engine->step());
      const CacheView::Blocks now = all_blocks(*engine);
      most_open = std::max(most_open, now.n_open);
      if (!shares) {
        EXPECT_EQ(now.n_shared + now.n_kept, 0U);
      }
    }
    EXPECT_GT(most_open, 0U);
    const CacheView::Blocks after = all_blocks(*engine);
    EXPECT_EQ(after.n_open + after.n_sealed + after.n_shared, 0U);
    // Policies that count attention leave nothing to others.
    if (*model.policy == 0 || !shares) {
      EXPECT_EQ(after.n_kept > 0, shares);
    }
  }
}

TEST(Blocks, AreCountedByFormat) {
  EngineOptions options = base_options(kMixed);  // f16/rot4, in one layer fp8/rot2
  auto engine = open_engine(options);
  std::vector<std::string> formats;
  for (const CacheView::Blocks& blocks : engine->cache_view().blocks) {
    EXPECT_GT(blocks.n_free, 0U) << blocks.format;
    EXPECT_GT(blocks.bytes, 0U);
    formats.push_back(blocks.format);
  }
  for (const char* format : {"f16/rot4", "fp8/rot2"}) {
    EXPECT_EQ(std::count(formats.begin(), formats.end(), format), 1) << format;
  }
}

}  // namespace
}  // namespace larder
