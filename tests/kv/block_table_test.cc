#include "kv/block_table.h"

#include <gtest/gtest.h>

#include <utility>

namespace larder {
namespace {

constexpr BlockClass kClass{0};

class BlockTableTest : public testing::Test {
 protected:
  BlockId take() { return *pool_.acquire(kClass); }

  BlockPool pool_ = *BlockPool::create({8192, {{256, 4}}});
};

TEST_F(BlockTableTest, ReleasesWhatItHolds) {
  {
    BlockTable table(pool_, 4);
    for (int i = 0; i < 4; ++i) table.push(take());
    EXPECT_EQ(table.end_block(), 4U);
    EXPECT_EQ(pool_.bytes_in_use(), 4 * 256U);
  }
  EXPECT_EQ(pool_.bytes_in_use(), 0U);
}

TEST_F(BlockTableTest, MovesItsBlocks) {
  BlockTable a(pool_, 4), b(pool_, 4);
  a.push(take());
  b.push(take());
  const BlockId kept = a.blocks()[0];
  b = std::move(a);
  EXPECT_EQ(pool_.bytes_in_use(), 256U);
  BlockTable c(std::move(b));
  ASSERT_EQ(c.blocks().size(), 1U);
  EXPECT_EQ(c.blocks()[0], kept);
}

TEST_F(BlockTableTest, ForgetsAtBothEnds) {
  BlockTable table(pool_, 8);
  for (int i = 0; i < 8; ++i) table.push(take());
  const BlockId third = table.blocks()[2];
  table.drop_front(2);
  EXPECT_EQ(table.first_block(), 2U);
  EXPECT_EQ(table.blocks()[0], third);
  table.truncate(5);
  EXPECT_EQ(table.end_block(), 5U);
  EXPECT_EQ(pool_.bytes_in_use(), 3 * 256U);
  table.truncate(9);  // nothing beyond
  EXPECT_EQ(table.blocks().size(), 3U);
}

TEST_F(BlockTableTest, ForksShareAndCopyOnWriteReplaces) {
  BlockTable table(pool_, 4);
  for (int i = 0; i < 3; ++i) table.push(take());
  BlockTable fork = table.fork(2);
  ASSERT_EQ(fork.blocks().size(), 2U);
  EXPECT_EQ(fork.blocks()[1], table.blocks()[1]);
  EXPECT_EQ(pool_.ref_count(fork.blocks()[1]), 2U);
  EXPECT_EQ(pool_.ref_count(table.blocks()[2]), 1U);
  const BlockId fresh = take();
  EXPECT_EQ(fork.replace_last(fresh), table.blocks()[1]);
  EXPECT_EQ(pool_.ref_count(table.blocks()[1]), 1U);
  EXPECT_EQ(fork.blocks()[1], fresh);
}

TEST_F(BlockTableTest, BugsAbort) {
  BlockTable table(pool_, 1);
  table.push(take());
  EXPECT_DEATH(table.push(BlockId{4}), "check");
  EXPECT_DEATH(table.drop_front(2), "check");
  EXPECT_DEATH(static_cast<void>(table.fork(2)), "check");
}

}  // namespace
}  // namespace larder
