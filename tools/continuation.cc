#include "continuation.h"

#include <algorithm>

#include "base/fail.h"
#include "perplexity.h"

namespace larder {

std::vector<Window> plan_continuations(std::uint64_t n_tokens, const ContinuationOptions& options,
                                       bool bos) {
  const std::uint64_t n_before = options.n_context - (bos ? 1 : 0);
  const std::uint64_t n_window = n_before + options.n_continuation;
  const std::uint64_t n_fitting = (n_tokens - n_window) / options.n_continuation + 1;
  const std::uint64_t n = std::min<std::uint64_t>(options.n_windows, n_fitting);
  std::vector<Window> windows;
  for (std::uint64_t i = 0; i < n; ++i) {
    const std::uint64_t begin = n == 1 ? 0 : (n_tokens - n_window) * i / (n - 1);
    windows.push_back({begin, begin + n_before, begin + n_window});
  }
  return windows;
}

Result<void> check_continuations(const Engine& engine, const ContinuationOptions& options,
                                 std::size_t n_tokens) {
  if (options.n_context < 2 || options.n_continuation == 0 || options.n_windows == 0) {
    return fail(Errc::invalid_argument,
                "{} windows of {} tokens of context and {} scored ones: at least 1, 2 and 1 are "
                "needed",
                options.n_windows, options.n_context, options.n_continuation);
  }
  const std::uint64_t n_window = std::uint64_t{options.n_context} + options.n_continuation;
  if (n_window > engine.options().n_context) {
    return fail(Errc::invalid_argument,
                "a context of {} tokens and {} behind it need ctx-size {}, it is {}",
                options.n_context, options.n_continuation, n_window, engine.options().n_context);
  }
  const bool bos = begins_with_bos(engine.tokenizer());
  if (const std::uint64_t n_needed = n_window - (bos ? 1 : 0); n_tokens < n_needed) {
    return fail(Errc::invalid_argument,
                "the text has {} tokens, a context of {} and {} behind it take {}{}", n_tokens,
                options.n_context, options.n_continuation, n_needed, bos ? " and BOS" : "");
  }
  return {};
}

}  // namespace larder
