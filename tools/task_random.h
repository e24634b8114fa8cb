// Random numbers that are the same on every platform: the standard's distributions are not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <utility>
#include <vector>

namespace larder {

class TaskRandom {
 public:
  /// The same numbers in the same order make the same draws.
  explicit TaskRandom(std::initializer_list<std::uint64_t> seeds) {
    for (const std::uint64_t seed : seeds) {
      // splitmix64, so that neighbouring seeds have nothing in common.
      state_ += seed + 0x9e3779b97f4a7c15U;
      next();
    }
    engine_.seed(state_);
  }

  /// 0 .. n - 1. REQUIRES: n > 0.
  std::uint64_t below(std::uint64_t n) { return engine_() % n; }
  /// 0 <= x < 1.
  double share() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  template <class T>
  void shuffle(std::vector<T>& values) {
    for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

 private:
  void next() {
    state_ = (state_ ^ (state_ >> 30)) * 0xbf58476d1ce4e5b9U;
    state_ = (state_ ^ (state_ >> 27)) * 0x94d049bb133111ebU;
    state_ ^= state_ >> 31;
  }
  std::uint64_t state_ = 0;
  std::mt19937_64 engine_;
};

}  // namespace larder
