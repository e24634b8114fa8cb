#include "bench_cases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace larder {
namespace {

std::vector<std::string> names(const BenchFlags& flags) {
  std::vector<std::string> result;
  const auto cases = bench_cases(flags).value();
  for (const BenchCase& one : cases) result.push_back(one.name());
  return result;
}

TEST(BenchCases, CombinesLists) {
  BenchFlags flags;
  flags.n_prompt = {512};
  flags.n_gen = {128};
  flags.depth = {0, 4096};
  flags.n_parallel = {1, 16};
  flags.prompt_gen = {{64, 32}};
  EXPECT_THAT(names(flags),
              testing::ElementsAre("pp512", "tg128", "pp64+tg32", "pp512 x16", "tg128 x16",
                                   "pp64+tg32 x16", "pp512@d4096", "tg128@d4096", "pp64+tg32@d4096",
                                   "pp512@d4096 x16", "tg128@d4096 x16", "pp64+tg32@d4096 x16"));
}

TEST(BenchCases, GivesTheEngineRoomForDepthAndTest) {
  BenchFlags flags;
  flags.depth = {1000};
  flags.n_parallel = {4};
  const auto cases = bench_cases(flags).value();
  for (const BenchCase& one : cases) {
    EXPECT_GE(one.engine.n_context, one.depth + one.n_new_prompt() + one.n_gen + 1);
    EXPECT_EQ(one.engine.n_sequences, 4U);
  }
}

TEST(BenchCases, NamesWhatIsShared) {
  BenchFlags flags;
  flags.n_prompt = {0};
  flags.n_gen = {16};
  flags.depth = {0, 2048};
  flags.n_parallel = {1, 16};
  flags.shared_prefix = true;
  EXPECT_THAT(names(flags),
              testing::ElementsAre("tg16", "tg16 x16", "tg16@d2048", "tg16@d2048 x16 shared"));
}

TEST(BenchCases, RefusesAContextThatACaseDoesNotFit) {
  BenchFlags flags;
  flags.engine.n_context = 8;
  flags.n_prompt = flags.n_gen = {0};
  flags.prompt_gen = {{8, 4}};
  EXPECT_THAT(bench_cases(flags).error().message,
              testing::AllOf(testing::HasSubstr("pp8+tg4"), testing::HasSubstr("12 tokens"),
                             testing::HasSubstr("--ctx-size is 8")));
}

TEST(BenchCases, RefusesNothingAndTooMuch) {
  BenchFlags nothing;
  nothing.n_prompt = nothing.n_gen = {0};
  EXPECT_FALSE(bench_cases(nothing));
  BenchFlags crowd;
  crowd.n_parallel = {1, 4096};
  EXPECT_THAT(bench_cases(crowd).error().message, testing::HasSubstr("--batch is 4096"));
  BenchFlags never;
  never.n_repetitions = 0;
  EXPECT_FALSE(bench_cases(never));
}

}  // namespace
}  // namespace larder
