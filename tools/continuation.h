// Contexts of a chosen length, and the tokens behind them that are scored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "larder/engine.h"

namespace larder {

/// One window: text tokens [begin, end), of which [score_begin, end) count.
struct Window {
  std::uint64_t begin, score_begin, end;
};

struct ContinuationOptions {
  std::uint32_t n_context = 0;         // tokens before the first that is scored, BOS included
  std::uint32_t n_continuation = 128;  // scored tokens of a window
  std::uint32_t n_windows = 8;         // at most: a short text has room for fewer
  std::uint64_t max_tokens = 0;        // of the text; 0: all

  std::uint32_t n_tokens() const noexcept { return n_context + n_continuation; }
};

/// Windows spread evenly over the text; no token is scored twice.
/// REQUIRES: the text holds one window.
std::vector<Window> plan_continuations(std::uint64_t n_tokens, const ContinuationOptions& options,
                                       bool bos);

/// Errors: invalid_argument (a length of 0, a context that the engine does not have, a text that
/// is shorter than a window).
Result<void> check_continuations(const Engine& engine, const ContinuationOptions& options,
                                 std::size_t n_tokens);

}  // namespace larder
