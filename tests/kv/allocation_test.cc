// Counts calls of operator new in this program: after construction, a step allocates nothing.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <new>

#include "kv/sequence_cache.h"

namespace {
std::atomic<std::size_t> n_allocations{0};
}  // namespace

// Not inlined: GCC 12 would then see free() beside operator new and warn of a mismatch.
[[gnu::noinline]] void* operator new(std::size_t n) {
  ++n_allocations;
  if (void* p = std::malloc(n == 0 ? 1 : n)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
  ++n_allocations;
  return std::malloc(n == 0 ? 1 : n);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

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
