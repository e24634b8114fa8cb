// Memory for what requests bring.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>

namespace larder {

/// Bytes of request bodies in memory, of all connections together: of what has come, never of what
/// was announced. Each body's first kFreeBytes do not count, so that small requests pass whatever
/// the large ones do. For one thread.
class BodyBudget {
 public:
  static constexpr std::size_t kFreeBytes = std::size_t{64} << 10;
  static constexpr std::size_t kLargeBytes = std::size_t{1} << 20;

  /// `on_large_release` (may be empty, must not throw) is called when a body of more than
  /// kLargeBytes has been let go.
  explicit BodyBudget(std::size_t n_most_bytes, std::function<void()> on_large_release = {})
      : n_most_bytes_(n_most_bytes), on_large_release_(std::move(on_large_release)) {}
  BodyBudget(const BodyBudget&) = delete;
  BodyBudget& operator=(const BodyBudget&) = delete;

  std::size_t n_bytes() const noexcept { return n_bytes_; }  // that count

 private:
  friend class BodyShare;
  const std::size_t n_most_bytes_;
  const std::function<void()> on_large_release_;
  std::size_t n_bytes_ = 0;
};

/// What one body takes of the budget, which must outlive it; given back when it goes. Declare it
/// before the bytes it stands for, so that they go first.
class BodyShare {
 public:
  BodyShare() = default;
  explicit BodyShare(BodyBudget& budget) : budget_(&budget) {}
  BodyShare(BodyShare&& other) noexcept
      : budget_(std::exchange(other.budget_, nullptr)),
        n_bytes_(std::exchange(other.n_bytes_, 0)) {}
  BodyShare& operator=(BodyShare&& other) noexcept;
  ~BodyShare() { release(); }

  /// False when all bodies together would take too much: nothing is taken then.
  [[nodiscard]] bool grow(std::size_t n_bytes);
  /// Gives all back; it cannot grow any more.
  void release() noexcept;

 private:
  BodyBudget* budget_ = nullptr;
  std::size_t n_bytes_ = 0;  // of the body
};

}  // namespace larder
