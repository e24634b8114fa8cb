#include "perplexity.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace larder {
namespace {

TEST(PlanWindows, ScoresEveryTokenOnceWithEnoughBefore) {
  for (const bool bos : {false, true}) {
    for (std::uint32_t n_context = 2; n_context < 20; ++n_context) {
      for (std::uint32_t stride = 1; stride < n_context; ++stride) {
        for (std::uint64_t n_tokens = 2; n_tokens < 60; n_tokens += 7) {
          const PerplexityOptions options{n_context, stride, 0, 1};
          const auto windows = plan_windows(n_tokens, options, bos);
          std::uint64_t next = bos ? 0 : 1;
          for (const Window& window : windows) {
            EXPECT_EQ(window.score_begin, next);
            EXPECT_LE(window.end - window.begin + (bos ? 1 : 0), n_context);
            if (window.begin > 0) {
              EXPECT_GE(window.score_begin - window.begin + (bos ? 1 : 0), n_context - stride);
            }
            next = window.end;
          }
          EXPECT_EQ(next, n_tokens);
        }
      }
    }
  }
}

TEST(PerplexityResult, ConvertsBits) {
  PerplexityResult result;
  result.total_bits = 300;
  result.n_scored_tokens = 100;
  result.n_scored_bytes = 400;
  result.nll_variance = 4;
  EXPECT_DOUBLE_EQ(result.bits_per_token(), 3);
  EXPECT_DOUBLE_EQ(result.bits_per_byte(), 0.75);
  EXPECT_DOUBLE_EQ(result.perplexity(), 8);
  EXPECT_DOUBLE_EQ(result.perplexity_error(), 8 * 0.2);
}

}  // namespace
}  // namespace larder
