// What one rendering may cost: templates and conversations are untrusted input.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/fail.h"

namespace larder::jinja {

inline constexpr std::size_t kMaxSourceBytes = 256 * 1024;
inline constexpr std::size_t kMaxTextBytes = 16 << 20;  // of one string, and of the output
inline constexpr std::uint64_t kMaxWork = 64ULL << 20;  // bytes produced + kStepWork per step
inline constexpr std::uint64_t kStepWork = 64;
inline constexpr std::uint32_t kMaxSyntaxDepth = 200;      // nesting of the template
inline constexpr std::uint32_t kMaxEvaluationDepth = 400;  // the same at run time, macros included
inline constexpr std::uint32_t kMaxValueDepth = 64;        // lists in lists
inline constexpr std::size_t kMaxNamespaces = 10'000;

/// Counts the work of one rendering. Every operation charges before it allocates, so the memory a
/// rendering holds is below kMaxWork plus its input. Not thread-safe: one rendering owns it.
class Budget {
 public:
  Result<void> charge(std::uint64_t units) {
    if (units > left_) {
      left_ = 0;
      return fail(Errc::invalid_argument, "takes too much work (over {} units)", kMaxWork);
    }
    left_ -= units;
    return {};
  }
  Result<void> step() { return charge(kStepWork); }
  /// For a string of `n` bytes about to be made.
  Result<void> text(std::uint64_t n) {
    if (n > kMaxTextBytes) {
      return fail(Errc::invalid_argument, "makes a string of {} bytes; the limit is {}", n,
                  kMaxTextBytes);
    }
    return charge(n);
  }

 private:
  std::uint64_t left_ = kMaxWork;
};

}  // namespace larder::jinja
