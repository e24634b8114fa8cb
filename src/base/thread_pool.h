// Fork-join over a fixed set of threads, cheap enough to call some hundred times per token.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace larder {

/// The calling thread works too: `n_threads` counts it. Workers spin for a short while between jobs
/// (fork and join then cost about 0.1 us), yield when the machine is oversubscribed, and sleep when
/// idle. One caller at a time; no allocation per call; a task must not call `for_each` again.
class ThreadPool {
 public:
  /// REQUIRES: n_threads > 0. Throws std::system_error when the system gives no more threads.
  explicit ThreadPool(unsigned n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned n_threads() const noexcept { return n_threads_; }

  /// Calls fn(task, thread) once for each task in [0, n_tasks), in no order; thread < n_threads().
  /// Returns when all have returned. Tasks are handed out one by one, so uneven ones balance.
  /// REQUIRES: n_tasks < 2^31.
  template <class F>
  void for_each(std::size_t n_tasks, F&& fn) {
    if (n_tasks == 0) return;
    if (n_threads_ == 1 || n_tasks == 1) {
      for (std::size_t i = 0; i < n_tasks; ++i) fn(i, 0U);
      return;
    }
    using Fn = std::remove_reference_t<F>;
    run({n_tasks, const_cast<void*>(static_cast<const void*>(std::addressof(fn))),
         [](void* context, std::size_t task, unsigned thread) {
           (*static_cast<Fn*>(context))(task, thread);
         }});
  }

 private:
  struct Job {
    std::size_t n_tasks = 0;
    void* context = nullptr;
    void (*call)(void*, std::size_t, unsigned) = nullptr;
  };
  void run(const Job& job);
  void end_workers() noexcept;
  void work(unsigned thread);
  void drain(unsigned thread);

  // A job ends when its tasks are done, not when every worker has looked at it: a worker that the
  // system scheduled away does not hold the others up. So a worker may be late by any number of
  // jobs, and may read `job_` only between taking a task of it and reporting that task done.
  const unsigned n_threads_;
  Job job_;
  alignas(64) std::atomic<std::uint32_t> generation_{0};  // bumped to start a job
  alignas(64) std::atomic<std::uint64_t> tickets_{0};  // tasks of the job << 32 | next one to take
  alignas(64) std::atomic<std::uint32_t> n_done_{0};   // tasks of the job
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace larder
