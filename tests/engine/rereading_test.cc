#include "engine/rereading.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "engine/schedule_runs.h"

namespace larder {
namespace {

using namespace schedule;

TEST(Rereading, EachPartStandsBehindItsInstructionAndTheEndOfTheOneBefore) {
  const RereadTexts texts{{100, 101}, {200}};
  std::vector<TokenId> text(25);
  std::iota(text.begin(), text.end(), 0);
  EXPECT_EQ(reread_tokens(texts, std::span(text).first(4), 0, 10),
            (std::vector<TokenId>{100, 101, 0, 1, 2, 3}));
  EXPECT_EQ(reread_tokens(texts, text, 0, 5), (std::vector<TokenId>{100, 101, 0, 1, 2, 3, 4}));
  EXPECT_EQ(reread_tokens(texts, text, 5, 5),
            (std::vector<TokenId>{200, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(reread_tokens(texts, text, 20, 10),
            (std::vector<TokenId>{200, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24}));
}

TEST(Rereading, RowsAreBounded) {
  const RereadTexts texts{std::vector<TokenId>(64), std::vector<TokenId>(64)};
  const std::vector<TokenId> text(300);
  for (const std::uint32_t n_chunk : {1U, 9U, 100U, 299U, 300U, 5000U}) {
    for (std::uint32_t n_done = 0; n_done < text.size(); n_done += n_chunk) {
      EXPECT_LE(reread_tokens(texts, text, n_done, n_chunk).size() + 2 * 16,
                max_reread_rows(n_chunk, 300, 16));
    }
  }
  EXPECT_EQ(max_reread_rows(0, 300, 16), 0U);
}

/// The prompt is computed once more, in parts; what is kept in the end are the rows of the text.
TEST(Rereading, CostsThePromptOnceMoreAndLeavesNoRows) {
  Request request;
  for (int i = 0; i < 120; ++i) request.prompt.push_back(3 + i * 7 % 500);
  request.max_tokens = 3;
  request.ignore_eos = true;
  request.n_logprobs = 0;
  const auto n_prefill = [&](const char* keep, std::uint32_t n_batch) {
    EngineOptions options = base_options();
    options.n_batch = n_batch;
    options.kv.policy = "kvzip:sinks=1,recent=5,chunk=50,floor-percent=100";
    options.kv.keep = keep;
    auto engine = open_engine(options);
    EXPECT_TRUE(engine->submit(request));
    std::uint64_t n_rows = 0, bytes = 0;
    while (!engine->idle()) {
      const auto report = engine->step();
      EXPECT_TRUE(report);
      n_rows += report->n_prefill_tokens;
      if (!report->events.empty() && bytes == 0) bytes = engine->stats().kv_bytes;
    }
    return std::pair(n_rows, bytes);
  };
  const auto [n_read, bytes] = n_prefill("48", 512);
  // 119 tokens in three parts, each behind an instruction of at most 64 tokens and 8 of the text.
  EXPECT_GE(n_read, 120U + 119 + 16);
  EXPECT_LE(n_read, 120U + 119 + 16 + 3 * 64);
  EXPECT_EQ(n_prefill("48", 11), std::pair(n_read, bytes));
  EXPECT_EQ(n_prefill("120", 512).first, 120U);  // all rows stay: nothing is read again
  EngineOptions plain = base_options();
  const auto engine = open_engine(plain);  // 160 rows, 10 blocks of each head
  EXPECT_EQ(bytes, engine->stats().kv_budget_bytes / 10 * 3);
}

}  // namespace
}  // namespace larder
