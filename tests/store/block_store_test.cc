#include "store/block_store.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <fstream>
#include <utility>

#include "kv/block_pool.h"

namespace larder {
namespace {

std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * 4096;
}

TEST(BlockStore, CopiesBlocks) {
  auto store = BlockStore::create(10000);
  ASSERT_TRUE(store);
  EXPECT_EQ(store->size(), 10000U);
  const BlockId a{0}, b{100};
  std::memset(store->bytes(a, 512).data(), 7, 512);
  store->copy(a, b, 512);
  for (const std::byte x : store->bytes(b, 512)) ASSERT_EQ(x, std::byte{7});
  EXPECT_EQ(store->bytes(b, 513)[512], std::byte{0});
  EXPECT_EQ(store->bytes(b, 1).data(), store->pool() + 6400);
}

TEST(BlockStore, MovesItsRange) {
  auto store = BlockStore::create(1 << 20);
  ASSERT_TRUE(store);
  store->pool()[5] = std::byte{9};
  BlockStore other(std::move(*store));
  auto third = BlockStore::create(4096);
  ASSERT_TRUE(third);
  *third = std::move(other);
  EXPECT_EQ(third->pool()[5], std::byte{9});
  EXPECT_EQ(third->size(), std::size_t{1} << 20);
}

TEST(BlockStore, RefusesWhatCannotBe) {
  EXPECT_FALSE(BlockStore::create(0));
  for (const std::size_t n : {SIZE_MAX, SIZE_MAX - (1 << 20), SIZE_MAX / 2}) {
    const auto store = BlockStore::create(n);
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code, Errc::unavailable);
    EXPECT_NE(store.error().message.find(std::to_string(n)), std::string::npos);
  }
}

// A large budget costs memory only as blocks are written, and the memory comes back.
TEST(BlockStore, MemoryFollowsTheBlocks) {
  constexpr std::size_t kMiB = 1 << 20;
  constexpr std::size_t kSlack = 8 * kMiB;  // huge pages, and what the sanitizers keep
  BlockPool pool = *BlockPool::create({2048 * kMiB, {{8192, 4}}});
  auto store = BlockStore::create(pool.range_bytes());
  ASSERT_TRUE(store);
  const std::size_t empty = resident_bytes();
  std::vector<std::array<BlockId, 4>> extents(64 * kMiB / (4 * 8192));
  for (auto& extent : extents) {
    ASSERT_TRUE(pool.acquire_extent(BlockClass{0}, extent));
    for (const BlockId id : extent) std::memset(store->bytes(id, 8192).data(), 1, 8192);
  }
  const std::size_t full = resident_bytes();
  EXPECT_GE(full, empty + 60 * kMiB);
  EXPECT_LE(full, empty + 64 * kMiB + kSlack);
  for (const auto& extent : extents) {
    for (const BlockId id : extent) pool.release(id);
  }
  std::array<PoolRange, 4> idle;
  const std::size_t n = pool.take_idle(idle);
  EXPECT_EQ(n, 1U);  // neighbours are one range, one system call
  for (std::size_t i = 0; i < n; ++i) store->discard(idle[i].offset, idle[i].bytes);
  EXPECT_LE(resident_bytes(), empty + kSlack);
  EXPECT_EQ(store->pool()[0], std::byte{0});
}

TEST(BlockStore, DiscardKeepsTheNeighbours) {
  auto store = BlockStore::create(64 * 1024);
  ASSERT_TRUE(store);
  std::memset(store->pool(), 5, store->size());
  store->discard(1000, 10000);
  EXPECT_EQ(store->pool()[999], std::byte{5});
  EXPECT_EQ(store->pool()[1000], std::byte{5});  // its page holds other bytes too
  EXPECT_EQ(store->pool()[4096], std::byte{0});
  EXPECT_EQ(store->pool()[8191], std::byte{0});
  EXPECT_EQ(store->pool()[8192], std::byte{5});
  EXPECT_EQ(store->pool()[11000], std::byte{5});
}

}  // namespace
}  // namespace larder
