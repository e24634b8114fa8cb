#include "base/thread_pool.h"

#include "base/check.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace larder {
namespace {

// Measured in pauses of some 40 cycles each: longer than the gaps between the layers of a step,
// short enough that an idle server does not burn a core.
constexpr int kSpins = 2000;
constexpr int kYields = 64;

void pause_briefly() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

/// Returns once `value` differs from `old`: spins, then yields, then sleeps in the kernel.
template <class T>
T wait_for_change(const std::atomic<T>& value, T old) noexcept {
  for (int i = 0; i < kSpins; ++i) {
    const T now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    pause_briefly();
  }
  for (int i = 0; i < kYields; ++i) {
    const T now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    std::this_thread::yield();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(unsigned n_threads) : n_threads_(n_threads) {
  LARDER_CHECK(n_threads > 0);
  workers_.reserve(n_threads - 1);
  try {
    for (unsigned t = 1; t < n_threads; ++t) workers_.emplace_back([this, t] { work(t); });
  } catch (...) {  // the system gives no more threads: end those that run, let the caller know
    end_workers();
    throw;
  }
}

ThreadPool::~ThreadPool() { end_workers(); }

void ThreadPool::end_workers() noexcept {
  stop_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::run(const Job& job) {
  LARDER_CHECK(job.n_tasks < (std::size_t{1} << 31));
  const auto n_tasks = static_cast<std::uint32_t>(job.n_tasks);
  job_ = job;
  n_done_.store(0, std::memory_order_relaxed);
  tickets_.store(std::uint64_t{n_tasks} << 32, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  drain(0);
  std::uint32_t done = n_done_.load(std::memory_order_acquire);
  while (done != n_tasks) done = wait_for_change(n_done_, done);
}

void ThreadPool::work(unsigned thread) {
  std::uint32_t seen = 0;
  for (;;) {
    seen = wait_for_change(generation_, seen);
    if (stop_.load(std::memory_order_relaxed)) return;
    drain(thread);
  }
}

void ThreadPool::drain(unsigned thread) {
  std::uint32_t n_done = 0, n_tasks = 0;
  for (;;) {
    // Acquire: a ticket of a job published meanwhile makes that job's `job_` visible.
    const std::uint64_t ticket = tickets_.fetch_add(1, std::memory_order_acq_rel);
    const auto task = static_cast<std::uint32_t>(ticket);
    n_tasks = static_cast<std::uint32_t>(ticket >> 32);
    if (task >= n_tasks) break;
    job_.call(job_.context, task, thread);
    ++n_done;
  }
  // The job cannot have ended: it lacks the tasks done here. So they are reported to the right one.
  if (n_done == 0) return;
  if (n_done_.fetch_add(n_done, std::memory_order_acq_rel) + n_done == n_tasks) {
    n_done_.notify_one();
  }
}

}  // namespace larder
