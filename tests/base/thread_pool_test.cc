#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace larder {
namespace {

TEST(ThreadPool, RunsEachTaskOnceAndWaitsForAll) {
  for (unsigned n_threads = 1; n_threads <= 4; ++n_threads) {
    ThreadPool pool(n_threads);
    EXPECT_EQ(pool.n_threads(), n_threads);
    for (const std::size_t n_tasks : {0U, 1U, 2U, 3U, 17U, 1000U}) {
      // Not atomic: the sanitizers see it when a task runs twice or after the return.
      std::vector<int> runs(n_tasks), on_thread(n_threads);
      std::vector<std::atomic<int>> busy(n_threads);
      pool.for_each(n_tasks, [&](std::size_t task, unsigned thread) {
        ASSERT_LT(thread, n_threads);
        ASSERT_EQ(busy[thread].exchange(1), 0) << "two tasks share a thread number";
        ++runs[task];
        ++on_thread[thread];
        busy[thread].store(0);
      });
      int total = 0;
      for (const int n : on_thread) total += n;
      EXPECT_EQ(static_cast<std::size_t>(total), n_tasks);
      for (const int n : runs) ASSERT_EQ(n, 1);
    }
  }
}

TEST(ThreadPool, ManyTinyJobsBackToBack) {
  // Late workers of one job meet the next: each job has its own closure on the stack, so a worker
  // that ran a stale one would write to dead memory or to the wrong sum.
  for (unsigned n_threads = 2; n_threads <= 4; ++n_threads) {
    ThreadPool pool(n_threads);
    std::mt19937 rng(n_threads);
    std::vector<std::size_t> seen(8);
    for (std::size_t job = 0; job < 3000; ++job) {
      const std::size_t n_tasks = 2 + rng() % 7;
      pool.for_each(n_tasks, [&seen, job](std::size_t task, unsigned) { seen[task] = job; });
      for (std::size_t task = 0; task < n_tasks; ++task) ASSERT_EQ(seen[task], job);
    }
  }
}

TEST(ThreadPool, UnevenTasksAndMoreThreadsThanCores) {
  ThreadPool pool(16);
  std::vector<double> sums(64);
  for (int round = 0; round < 20; ++round) {
    pool.for_each(sums.size(), [&](std::size_t task, unsigned) {
      double sum = 0;
      for (std::size_t i = 0; i < task * task; ++i) sum += static_cast<double>(i % 3);
      sums[task] = sum;
    });
    for (std::size_t task = 0; task < sums.size(); ++task) {
      double expected = 0;
      for (std::size_t i = 0; i < task * task; ++i) expected += static_cast<double>(i % 3);
      ASSERT_EQ(sums[task], expected);
    }
  }
}

TEST(ThreadPool, EndsWhileIdleOrUnused) {
  for (int i = 0; i < 50; ++i) {
    ThreadPool pool(3);
    if (i % 2 == 0) pool.for_each(4, [](std::size_t, unsigned) {});
  }
}

TEST(ThreadPool, PoolsAreIndependent) {
  ThreadPool outer(2);
  std::vector<int> sums(2);
  outer.for_each(2, [&](std::size_t task, unsigned) {
    ThreadPool inner(2);
    std::vector<int> parts(10);
    inner.for_each(parts.size(), [&](std::size_t i, unsigned) { parts[i] = static_cast<int>(i); });
    for (const int part : parts) sums[task] += part;
  });
  EXPECT_EQ(sums, (std::vector<int>{45, 45}));
}

}  // namespace
}  // namespace larder
