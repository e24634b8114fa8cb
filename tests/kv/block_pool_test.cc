#include "kv/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <set>

#include "kv/pool_model.h"

namespace larder {
namespace {

constexpr BlockClass kFirst{0}, kSecond{1};

BlockPool make(const BlockPoolOptions& options) {
  auto pool = BlockPool::create(options);
  if (!pool) ADD_FAILURE() << pool.error().message;
  return std::move(*pool);
}

std::string refusal(const BlockPoolOptions& options) {
  const auto pool = BlockPool::create(options);
  return pool ? "accepted" : pool.error().message;
}

TEST(BlockPool, RefusesSizesThatCannotBe) {
  const BlockClassSpec good{256, 4};
  EXPECT_NE(refusal({4096, {}}).find("0 block classes"), std::string::npos);
  EXPECT_NE(refusal({4096, std::vector(65, good)}).find("65 block classes"), std::string::npos);
  EXPECT_NE(refusal({4096, {{100, 4}}}).find("100 bytes"), std::string::npos);
  EXPECT_NE(refusal({4096, {{0, 4}}}).find("0 bytes"), std::string::npos);
  EXPECT_NE(refusal({4096, {{SIZE_MAX - 63, 4}}}).find("a block of"), std::string::npos);
  EXPECT_NE(refusal({4096, {{256, 0}}}).find("0 blocks"), std::string::npos);
  EXPECT_NE(refusal({4096, {{256, 65}}}).find("65 blocks"), std::string::npos);
  EXPECT_NE(refusal({1023, {good}}).find("needs 1024 bytes"), std::string::npos);
  EXPECT_NE(refusal({SIZE_MAX, {good}}).find("a budget of"), std::string::npos);
  EXPECT_NE(refusal({std::size_t{1} << 38, {{64, 1}}}).find("at most 268435456 blocks"),
            std::string::npos);
  EXPECT_NE(refusal({4096, {good}, 1000}).find("slabs of 1000"), std::string::npos);
  EXPECT_NE(refusal({4096, {good}, 512}).find("slabs of 512"), std::string::npos);
  EXPECT_EQ(refusal({1024, {good}}), "accepted");
}

TEST(BlockPool, OneClassWastesNothing) {
  BlockPool pool = make({10 * 1024 + 1000, {{256, 4}}});
  EXPECT_EQ(pool.slab_bytes(), 1024U);
  EXPECT_EQ(pool.range_bytes(), 10 * 1024U);
  EXPECT_EQ(pool.n_free_extents(kFirst), 10U);
}

TEST(BlockPool, SlabSizeOfSeveralClassesWastesLittle) {
  const std::vector<BlockClassSpec> classes = {{4096, 8}, {2304, 8}, {1280, 8}};
  const std::size_t slab = choose_slab_bytes(classes);
  EXPECT_EQ(slab % (4096 * 8), 0U);
  EXPECT_LE(slab, 8U * 4096 * 8);
  for (const BlockClassSpec& c : classes) EXPECT_LE(slab % (c.block_bytes * 8) * 32, slab);
}

TEST(BlockPool, ExtentsAreNeighbours) {
  BlockPool pool = make({8192, {{256, 4}}});
  std::array<BlockId, 4> out;
  ASSERT_TRUE(pool.acquire_extent(kFirst, out));
  for (std::size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(to_offset(out[i]), to_offset(out[i - 1]) + 256);
  }
  for (const BlockId id : out) EXPECT_EQ(pool.ref_count(id), 1U);
}

TEST(BlockPool, CountsHowLongExtentsLived) {
  BlockPool pool = make({4096, {{256, 4}}});
  std::array<BlockId, 4> first{}, second{};
  pool.set_time(UINT32_MAX - 9);  // it wraps around meanwhile
  ASSERT_TRUE(pool.acquire_extent(kFirst, first));
  pool.set_time(0);
  ASSERT_TRUE(pool.acquire_extent(kFirst, second));
  for (const BlockId id : second) pool.release(id);
  for (std::size_t i = 0; i < 3; ++i) pool.release(first[i]);
  EXPECT_EQ(pool.lifetimes().counts[0], 1U);
  pool.set_time(90);
  pool.release(first[3]);  // after 100 ms: 64 to 127
  EXPECT_EQ(pool.lifetimes().counts[7], 1U);
  EXPECT_NEAR(pool.lifetimes().seconds, 0.1, 1e-9);
  pool.set_time(UINT32_MAX);
  ASSERT_TRUE(pool.acquire_extent(kFirst, first));
  pool.set_time(UINT32_MAX - 1);  // almost 50 days
  for (const BlockId id : first) pool.release(id);
  EXPECT_EQ(pool.lifetimes().counts.back(), 1U);
}

TEST(BlockPool, SinglesFillBrokenExtentsFirst) {
  BlockPool pool = make({8192, {{256, 4}}});
  std::array<BlockId, 4> out;
  ASSERT_TRUE(pool.acquire_extent(kFirst, out));
  EXPECT_TRUE(pool.release(out[2]));
  EXPECT_EQ(pool.ref_count(out[2]), 0U);
  EXPECT_EQ(pool.acquire(kFirst), out[2]);
  ASSERT_TRUE(
      pool.acquire_extent(kFirst, std::span(out).first(3)));  // its fourth stays for singles
  EXPECT_EQ(to_offset(*pool.acquire(kFirst)), to_offset(out[2]) + 256);
}

TEST(BlockPool, CountsReferences) {
  BlockPool pool = make({8192, {{256, 4}}});
  const BlockId id = *pool.acquire(kFirst);
  pool.share(id);
  EXPECT_EQ(pool.ref_count(id), 2U);
  EXPECT_FALSE(pool.release(id));
  EXPECT_EQ(pool.bytes_in_use(), 256U);
  EXPECT_TRUE(pool.release(id));
  EXPECT_EQ(pool.bytes_in_use(), 0U);
  EXPECT_EQ(pool.peak_bytes(), 256U);
}

TEST(BlockPool, AnExhaustedPoolTakesNothing) {
  BlockPool pool = make({2048, {{256, 4}}});
  std::array<BlockId, 4> out;
  EXPECT_TRUE(pool.acquire_extent(kFirst, out));
  EXPECT_TRUE(pool.acquire(kFirst).has_value());
  EXPECT_FALSE(pool.acquire_extent(kFirst, out));
  EXPECT_EQ(pool.bytes_in_use(), 5 * 256U);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(pool.acquire(kFirst).has_value());
  EXPECT_FALSE(pool.acquire(kFirst).has_value());
  EXPECT_EQ(pool.bytes_in_use(), pool.budget_bytes());
}

TEST(BlockPool, AFreedSlabServesAnotherClass) {
  BlockPool pool = make({2 * 4096, {{1024, 4}, {256, 4}}});
  std::array<BlockId, 4> large, more;
  std::vector<BlockId> small(8 * 4);
  for (std::size_t i = 0; i < small.size(); i += 4) {
    ASSERT_TRUE(pool.acquire_extent(kSecond, std::span(small).subspan(i, 4)));
  }
  EXPECT_FALSE(pool.acquire_extent(kFirst, large));
  for (std::size_t i = 0; i < 16; ++i) pool.release(small[i]);  // the first slab's
  EXPECT_TRUE(pool.acquire_extent(kFirst, large));
  EXPECT_FALSE(pool.acquire_extent(kFirst, more));
  EXPECT_EQ(pool.block_class(large[0]), kFirst);
}

TEST(BlockPoolDeathTest, BugsAbort) {
  BlockPool pool = make({8192, {{256, 4}}});
  const BlockId id = *pool.acquire(kFirst);
  EXPECT_DEATH(pool.share(BlockId{to_index(id) + 1}), "check");    // inside a block
  EXPECT_DEATH(pool.release(BlockId{to_index(id) + 4}), "check");  // a free block
  EXPECT_DEATH(pool.release(BlockId{UINT32_MAX}), "check");        // outside the range
  pool.release(id);
  EXPECT_DEATH(pool.release(id), "check");
}

TEST(BlockPool, ListsIdleMemoryOnceAndInRuns) {
  BlockPool pool = make({16 * 1024, {{256, 4}}});
  std::array<PoolRange, 4> ranges;
  EXPECT_EQ(pool.take_idle(ranges), 0U);  // never used
  std::vector<std::array<BlockId, 4>> extents(8);
  for (auto& e : extents) ASSERT_TRUE(pool.acquire_extent(kFirst, e));
  EXPECT_EQ(pool.idle_bytes(), 0U);
  for (const std::size_t i : {0U, 1U, 2U, 5U, 7U}) {
    for (const BlockId id : extents[i]) pool.release(id);
  }
  EXPECT_EQ(pool.idle_bytes(), 5 * 1024U);
  ASSERT_EQ(pool.take_idle(std::span(ranges).first(2)), 2U);
  EXPECT_EQ(ranges[0].offset, 0U);
  EXPECT_EQ(ranges[0].bytes, 3 * 1024U);
  EXPECT_EQ(ranges[1].offset, 5 * 1024U);
  EXPECT_EQ(ranges[1].bytes, 1024U);
  ASSERT_EQ(pool.take_idle(ranges), 1U);
  EXPECT_EQ(ranges[0].offset, 7 * 1024U);
  EXPECT_EQ(pool.take_idle(ranges), 0U);
}

TEST(BlockPool, TheSameCallsGiveTheSameIds) {
  const auto run = [] {
    BlockPool pool = make({64 * 1024, {{256, 4}, {512, 3}}});
    std::mt19937 random(7);
    std::vector<BlockId> held, seen;
    for (int i = 0; i < 2000; ++i) {
      if (random() % 2 == 0) {
        const auto id = pool.acquire(BlockClass{static_cast<std::uint8_t>(random() % 2)});
        if (id) held.push_back(*id), seen.push_back(*id);
      } else if (!held.empty()) {
        const std::size_t j = random() % held.size();
        pool.release(held[j]);
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(j));
      }
    }
    return seen;
  };
  EXPECT_EQ(run(), run());
}

// The promise of budget_for: whole extents of every class, in whatever order they come and go.
TEST(BlockPool, BudgetForIsExact) {
  const std::vector<BlockClassSpec> classes = {{320, 5}, {128, 7}, {64, 3}};
  const std::vector<std::uint64_t> wanted = {9, 13, 21};
  for (const std::size_t slab : {std::size_t{0}, std::size_t{8192}}) {
    const std::size_t budget = budget_for(classes, wanted, slab);
    BlockPool pool = make({budget, classes, slab});
    EXPECT_EQ(pool.range_bytes(), budget);
    std::mt19937 random(11);
    std::vector<std::vector<std::vector<BlockId>>> live(3);
    for (int i = 0; i < 20000; ++i) {
      const std::size_t c = random() % 3;
      if (random() % 3 != 0) {
        if (live[c].size() == wanted[c]) continue;
        std::vector<BlockId> extent(classes[c].extent_blocks);
        ASSERT_TRUE(pool.acquire_extent(BlockClass{static_cast<std::uint8_t>(c)}, extent));
        live[c].push_back(extent);
      } else if (!live[c].empty()) {
        const std::size_t j = random() % live[c].size();
        for (const BlockId id : live[c][j]) pool.release(id);
        live[c].erase(live[c].begin() + static_cast<std::ptrdiff_t>(j));
      }
    }
  }
  EXPECT_EQ(budget_for({{{1024, 4}}}, {{10}}), 40960U);
  EXPECT_EQ(budget_for({{{1024, 4}}}, {{UINT64_MAX}}), SIZE_MAX);
}

struct Held {
  BlockId id;
  BlockClass cls;
};

// Thousands of random operations against PoolModel; after each, invariants 1 and 2.
void run_against_model(unsigned seed, const BlockPoolOptions& options) {
  BlockPool pool = make(options);
  PoolModel model;
  std::mt19937 random(seed);
  std::vector<Held> held;  // one entry per reference
  std::vector<BlockId> out;
  for (int step = 0; step < 4000; ++step) {
    const auto c = static_cast<std::uint8_t>(random() % options.classes.size());
    const BlockClassSpec& spec = options.classes[c];
    // The mood changes, so that the pool is now full, now nearly empty.
    const bool growing = step / 400 % 2 == 0;
    const auto choice = static_cast<unsigned>(random() % 10);
    if (choice < (growing ? 3U : 1U)) {
      out.resize(1 + random() % spec.extent_blocks);
      const std::size_t n_free = pool.n_free_extents(BlockClass{c});
      ASSERT_EQ(pool.acquire_extent(BlockClass{c}, out), n_free > 0);
      if (n_free == 0) continue;
      for (std::size_t i = 0; i < out.size(); ++i) {
        model.acquired(out[i], spec.block_bytes);
        held.push_back({out[i], BlockClass{c}});
        ASSERT_EQ(to_offset(out[i]), to_offset(out[0]) + i * spec.block_bytes);
      }
    } else if (choice < (growing ? 6U : 2U)) {
      const auto id = pool.acquire(BlockClass{c});
      if (!id) {
        ASSERT_EQ(pool.n_free_extents(BlockClass{c}), 0U);
        continue;
      }
      model.acquired(*id, spec.block_bytes);
      held.push_back({*id, BlockClass{c}});
    } else if (held.empty()) {
      continue;
    } else if (choice < 7) {
      const Held h = held[random() % held.size()];
      pool.share(h.id);
      model.shared(h.id);
      held.push_back(h);
    } else {
      const std::size_t i = random() % held.size();
      ASSERT_EQ(pool.release(held[i].id), model.released(held[i].id));
      ASSERT_EQ(pool.ref_count(held[i].id) > 0, model.lives(held[i].id));
      std::swap(held[i], held.back());
      held.pop_back();
    }
    model.check(pool);
    if (testing::Test::HasFatalFailure()) return;
  }
  for (const Held& h : held) pool.release(h.id);
  EXPECT_EQ(pool.bytes_in_use(), 0U);
  for (std::size_t c = 0; c < options.classes.size(); ++c) {  // everything returned to the stock
    const auto& spec = options.classes[c];
    EXPECT_EQ(pool.n_free_extents(BlockClass{static_cast<std::uint8_t>(c)}),
              pool.range_bytes() / pool.slab_bytes() *
                  (pool.slab_bytes() / (spec.block_bytes * spec.extent_blocks)));
  }
}

TEST(BlockPool, AgreesWithTheModel) {
  for (unsigned seed = 0; seed < 4; ++seed) {
    run_against_model(seed, {40 * 1024, {{512, 3}}});
    run_against_model(seed, {64 * 1024, {{512, 4}, {320, 4}, {64, 64}}});
    run_against_model(seed, {64 * 1024, {{128, 1}, {1024, 2}}, 4096});
  }
}

TEST(BlockPool, CanAcquireCountsClassesTogether) {
  BlockPool pool = make({3 * 4096, {{1024, 4}, {512, 2}}});  // slabs of 4096: 1 or 4 extents
  EXPECT_TRUE(pool.can_acquire(std::array<std::uint32_t, 2>{2, 4}));
  EXPECT_FALSE(pool.can_acquire(std::array<std::uint32_t, 2>{2, 5}));
  std::array<BlockId, 2> out;
  ASSERT_TRUE(pool.acquire_extent(kSecond, out));
  EXPECT_TRUE(pool.can_acquire(std::array<std::uint32_t, 2>{2, 3}));
  EXPECT_FALSE(pool.can_acquire(std::array<std::uint32_t, 2>{3, 0}));
}

TEST(BlockPool, CountsLiveAndSharedBlocksByClass) {
  BlockPoolOptions options;
  options.classes = {{1024, 2}, {512, 4}};
  options.budget_bytes = 64 * 1024;
  auto pool = BlockPool::create(options);
  ASSERT_TRUE(pool);
  std::array<BlockId, 2> pair{};
  std::array<BlockId, 4> four{};
  ASSERT_TRUE(pool->acquire_extent(BlockClass{0}, pair));
  ASSERT_TRUE(pool->acquire_extent(BlockClass{1}, four));
  pool->share(four[1]);
  pool->share(four[1]);
  pool->release(four[2]);
  const std::vector<ClassUse> uses = pool->count_blocks();
  ASSERT_EQ(uses.size(), 2U);
  EXPECT_EQ(uses[0].n_live, 2U);
  EXPECT_EQ(uses[0].n_shared, 0U);
  EXPECT_EQ(uses[1].n_live, 3U);
  EXPECT_EQ(uses[1].n_shared, 1U);
  for (const BlockId id : pair) pool->release(id);
  EXPECT_EQ(pool->count_blocks()[0].n_live, 0U);
}

}  // namespace
}  // namespace larder
