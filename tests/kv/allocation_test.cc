// Counts calls of operator new in this program: after construction, a step allocates nothing.
#include <gtest/gtest.h>

#include <array>

#include "allocation_counter.h"
#include "kv/sequence_cache.h"

namespace larder {
namespace {

TEST(Allocation, NoneOnTheStepPath) {
  const CacheShape shape{16, {{4, 0, BlockClass{0}}, {4, 40, BlockClass{0}}}};
  BlockPool pool = *BlockPool::create({1 << 20, {{512, 4}}});
  SequenceCache a(shape, pool, 4000), b(shape, pool, 4000);
  std::vector<BlockCopy> copies;
  copies.reserve(2 * 4);
  ASSERT_TRUE(a.reserve(20, copies));
  a.commit(20);
  b = a.fork(20);
  std::array<PoolRange, 8> idle;
  bool fits = true;
  const std::size_t before = n_allocations;
  for (int i = 0; i < 400; ++i) {
    copies.clear();
    fits = fits && a.reserve(1, copies) && b.reserve(3, copies);
    a.commit(1);
    b.commit(2);
    if (i % 50 == 0) b.truncate(b.n_rows() - 1);
    pool.take_idle(idle);
  }
  const std::size_t after = n_allocations;
  EXPECT_TRUE(fits);
  EXPECT_EQ(before, after);
}

}  // namespace
}  // namespace larder
