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
  for (unsigned t = 1; t < n_threads; ++t) workers_.emplace_back([this, t] { work(t); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::run(const Job& job) {
  job_ = job;
  next_task_.store(0, std::memory_order_relaxed);
  n_running_.store(n_threads_ - 1, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  drain(job, 0);
  unsigned running = n_running_.load(std::memory_order_acquire);
  while (running != 0) running = wait_for_change(n_running_, running);
}

void ThreadPool::work(unsigned thread) {
  std::uint32_t seen = 0;
  for (;;) {
    seen = wait_for_change(generation_, seen);
    if (stop_.load(std::memory_order_relaxed)) return;
    drain(job_, thread);
    if (n_running_.fetch_sub(1, std::memory_order_acq_rel) == 1) n_running_.notify_one();
  }
}

void ThreadPool::drain(const Job& job, unsigned thread) {
  for (;;) {
    const std::size_t task = next_task_.fetch_add(1, std::memory_order_relaxed);
    if (task >= job.n_tasks) return;
    job.call(job.context, task, thread);
  }
}

}  // namespace larder
