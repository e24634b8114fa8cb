// Who is admitted when blocks are scarce, and what becomes of those who must yield.
#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/schedule_models.h"

namespace larder {
namespace {

constexpr std::uint32_t kContext = 64;

/// A scheduler over a cache of one layer without bytes; `run` steps it as an engine would.
class SchedulerTest : public testing::Test {
 protected:
  void set_up(std::uint32_t n_blocks, std::uint32_t n_sequences) {
    shape_.block_tokens = 16;
    shape_.layers = {{1, 0, BlockClass{0}, BlockClass{0}}};
    BlockPoolOptions options;
    options.classes = {{1024, 1}};
    options.budget_bytes = std::size_t{n_blocks} * 1024;
    pool_.emplace(std::move(*BlockPool::create(options)));
    SchedulerHooks hooks;
    hooks.make_room = [](const Sequence&) { return false; };
    hooks.drop_pins = [] { return false; };
    hooks.share_rows = hooks.share_more = [](Sequence&) {};
    hooks.is_underway = [](const Sequence&, const StepPlan&) { return false; };
    hooks.give_blocks_up = [this](Sequence& victim) {
      given_up_.emplace_back(victim.request->id, victim.cache.n_rows());
      victim.cache.clear();
    };
    scheduler_.emplace(SchedulerLimits{n_sequences, 256}, *pool_, std::move(hooks));
  }
  /// Ends when `n_rows` rows are computed.
  void add(RequestId id, std::int32_t priority, std::uint32_t n_prompt, std::uint32_t n_rows) {
    auto state = std::make_shared<RequestState>();
    state->id = id;
    state->request.prompt.assign(n_prompt, 1);
    state->request.priority = priority;
    state->request.max_tokens = n_rows;
    scheduler_->add(std::make_unique<Sequence>(state, 0, SequenceCache(shape_, *pool_, kContext),
                                               engine_->tokenizer(), 512));
  }
  void step() {
    for (const PlannedRows& planned : scheduler_->plan().rows) {
      Sequence& s = *planned.sequence;
      s.cache.commit(planned.n_rows);
      if (s.n_missing() > 0) continue;
      s.tokens.push_back(1);
      if (s.cache.n_rows() >= s.request->request.max_tokens) s.finish = FinishReason::length;
    }
    for (const auto& finished : scheduler_->take_finished()) {
      finished_.push_back(finished->request->id);
    }
  }
  void run() {
    while (!scheduler_->idle()) step();
  }

  CacheShape shape_{};
  std::optional<BlockPool> pool_;
  std::unique_ptr<Engine> engine_ = schedule::open_engine(schedule::base_options());
  std::optional<Scheduler> scheduler_;
  std::vector<std::pair<RequestId, std::uint32_t>> given_up_;  // and the rows they had
  std::vector<RequestId> finished_;
};

TEST_F(SchedulerTest, TheUrgentGoFirstWhenBlocksAreScarce) {
  set_up(/*n_blocks=*/4, /*n_sequences=*/4);
  add(1, 5, 40, 48);  // three blocks
  step();
  add(2, 5, 40, 48);
  add(3, 5, 40, 48);
  step();
  EXPECT_EQ(scheduler_->n_waiting(), 2U);  // for blocks, not for a slot
  add(4, -100, 40, 48);
  run();
  EXPECT_THAT(finished_, testing::ElementsAre(1, 4, 2, 3));
  EXPECT_TRUE(given_up_.empty());
}

TEST_F(SchedulerTest, WhoIsOvertakenOftenEnoughGetsItsTurn) {
  set_up(4, 1);
  add(100, 1, 10, 12);
  for (RequestId id = 1; id <= 2 * kOvertakings; ++id) add(id, 0, 10, 12);
  run();
  ASSERT_EQ(finished_.size(), 2 * kOvertakings + 1);
  EXPECT_EQ(finished_[kOvertakings], 100U);
}

TEST_F(SchedulerTest, AVictimGivesItsBlocksUpThroughTheHookAndGoesBeforeItsEquals) {
  set_up(4, 3);
  add(1, 0, 20, 40);  // three blocks in the end
  add(2, 0, 20, 40);
  step();
  add(3, 0, 20, 40);
  run();
  EXPECT_THAT(finished_, testing::ElementsAre(1, 2, 3));
  ASSERT_FALSE(given_up_.empty());
  EXPECT_EQ(given_up_[0].first, 2U);
  EXPECT_EQ(given_up_[0].second, 32U);  // its rows were still there
  EXPECT_EQ(scheduler_->n_preempted(), given_up_.size());
  EXPECT_EQ(pool_->bytes_in_use(), 0U);
}

TEST_F(SchedulerTest, AnUrgentNewcomerGoesBeforeThePreempted) {
  set_up(4, 3);
  add(1, 0, 20, 40);
  add(2, 1, 20, 40);
  for (int i = 0; i < 5; ++i) step();
  add(3, 0, 40, 48);
  run();
  EXPECT_THAT(finished_, testing::ElementsAre(1, 3, 2));
}

}  // namespace
}  // namespace larder
