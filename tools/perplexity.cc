#include "perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numbers>
#include <span>
#include <utility>

#include "base/fail.h"
#include "cached_context.h"
#include "model/text/tokenizer.h"
#include "terminal.h"

namespace larder {
namespace {

using Clock = std::chrono::steady_clock;

struct WindowScore {
  double nats = 0, nats_squared = 0;
};

/// Keeps `n_parallel` windows in flight and sums what they score. Sums are kept by window, so that
/// the total does not depend on which one ends first.
class WindowRunner {
 public:
  WindowRunner(Engine& engine, std::span<const TokenId> tokens, std::span<const Window> windows,
               bool from_cache)
      : engine_(engine),
        tokens_(tokens),
        windows_(windows),
        bos_(begins_with_bos(engine.tokenizer())),
        scores_(windows.size()),
        from_cache_(from_cache) {
    for (const Window& window : windows) n_to_score_ += window.end - window.score_begin;
  }

  /// All figures but the bytes of the text.
  Result<PerplexityResult> run(std::uint32_t n_parallel, const PerplexityProgress& progress) {
    const auto begin = Clock::now();
    while (n_done_ < windows_.size()) {
      if (InterruptGuard::interrupted()) return fail(Errc::unavailable, "interrupted");
      while (running_.size() < n_parallel && next_ < windows_.size()) LARDER_TRY(submit());
      LARDER_ASSIGN(const StepReport report, engine_.step());
      for (const TokenEvent& event : report.events) LARDER_TRY(absorb(event));
      if (n_scored_ > 0) {
        progress(static_cast<double>(n_scored_) / static_cast<double>(n_to_score_),
                 std::exp(total_ / static_cast<double>(n_scored_)));
      }
    }
    return result(std::chrono::duration<double>(Clock::now() - begin).count());
  }

 private:
  Result<PerplexityResult> result(double seconds) const {
    PerplexityResult r;
    r.n_text_tokens = tokens_.size();
    r.n_windows = static_cast<std::uint32_t>(windows_.size());
    r.n_scored_tokens = n_to_score_;
    r.bos = bos_;
    r.seconds = seconds;
    double nats = 0, nats_squared = 0;
    for (const WindowScore& score : scores_) {
      nats += score.nats;
      nats_squared += score.nats_squared;
    }
    r.total_bits = nats / std::numbers::ln2;
    const double mean = nats / static_cast<double>(r.n_scored_tokens);
    r.nll_variance =
        std::max(0.0, nats_squared / static_cast<double>(r.n_scored_tokens) - mean * mean);
    if (!std::isfinite(r.perplexity())) {
      return fail(Errc::corrupt, "{}: the perplexity is {} ({:.3g} bits per token), so {}",
                  engine_.options().model_path, r.perplexity(), r.bits_per_token(),
                  "these weights are damaged");
    }
    return r;
  }

  struct Running {
    std::size_t window;
    std::uint64_t next;  // text token whose log-probability comes next
  };

  Result<void> submit() {
    const Window& window = windows_[next_];
    Request request;
    if (bos_) request.prompt.push_back(engine_.tokenizer().data().bos);
    const auto part = tokens_.subspan(window.begin, window.end - window.begin);
    request.prompt.insert(request.prompt.end(), part.begin(), part.end());
    request.max_tokens = 1;
    request.prompt_logprobs = true;
    request.prompt_logprobs_begin =
        static_cast<std::uint32_t>(window.score_begin - window.begin + (bos_ ? 1 : 0));
    if (from_cache_) {
      const auto n_cached = static_cast<std::ptrdiff_t>(request.prompt_logprobs_begin - 1);
      const auto first = request.prompt.begin();
      LARDER_ASSIGN(const CachedContext context, cache_context(engine_, {first, first + n_cached}));
      request.reuse = kept_ = context.id;
      request.n_read_in_full = static_cast<std::uint32_t>(n_cached);
    }
    request.sampling.temperature = 0;
    LARDER_ASSIGN(const RequestId id, engine_.submit(std::move(request)));
    running_[id] = {next_++, window.score_begin};
    return {};
  }

  Result<void> absorb(const TokenEvent& event) {
    const auto found = running_.find(event.request);
    if (found == running_.end()) return {};
    auto& [index, next] = found->second;
    for (const TokenLogprob& scored : event.prompt) {
      LARDER_TRY(score(index, next, -scored.logprob));
      ++next;
    }
    if (event.finish != FinishReason::none) {
      running_.erase(found);
      engine_.release(kept_);
      ++n_done_;
    }
    return {};
  }

  Result<void> score(std::size_t window, std::uint64_t position, double nats) {
    if (!std::isfinite(nats)) {
      return fail(Errc::corrupt, "{}: the log-probability of token {} at position {} is {}",
                  engine_.options().model_path, tokens_[position], position, -nats);
    }
    scores_[window].nats += nats;
    scores_[window].nats_squared += nats * nats;
    total_ += nats;
    ++n_scored_;
    return {};
  }

  Engine& engine_;
  std::span<const TokenId> tokens_;
  std::span<const Window> windows_;
  bool bos_;
  std::vector<WindowScore> scores_;  // [windows]
  bool from_cache_;                  // what comes before the scored tokens: one window at a time
  RequestId kept_ = 0;
  std::map<RequestId, Running> running_;
  std::size_t next_ = 0, n_done_ = 0;
  std::uint64_t n_scored_ = 0, n_to_score_ = 0;
  double total_ = 0;  // in order of arrival: for the progress bar only
};

}  // namespace

double PerplexityResult::perplexity() const { return std::exp2(bits_per_token()); }

double PerplexityResult::perplexity_error() const {
  return perplexity() * std::sqrt(nll_variance / static_cast<double>(n_scored_tokens));
}

std::vector<Window> plan_windows(std::uint64_t n_tokens, const PerplexityOptions& options,
                                 bool bos) {
  const std::uint64_t n_room = options.n_context - (bos ? 1 : 0);
  std::vector<Window> windows;
  std::uint64_t scored_end = bos ? 0 : 1;
  for (std::uint64_t end = std::min(n_room, n_tokens);;
       end = std::min(end + options.stride, n_tokens)) {
    windows.push_back({end - std::min(end, n_room), scored_end, end});
    scored_end = end;
    if (end == n_tokens) return windows;
  }
}

bool begins_with_bos(const Tokenizer& tokenizer) {
  return tokenizer.data().add_bos && tokenizer.data().bos != kNoToken;
}

std::vector<TokenId> literal_tokens(const Tokenizer& tokenizer, std::string_view text,
                                    std::uint64_t max_tokens) {
  EncodeOptions literal;
  literal.add_special = false;
  literal.parse_special = false;
  std::vector<TokenId> tokens = tokenizer.encode(text, literal);
  if (max_tokens > 0 && tokens.size() > max_tokens) tokens.resize(max_tokens);
  return tokens;
}

Result<void> check_windows(const Engine& engine, const PerplexityOptions& options,
                           std::size_t n_tokens) {
  if (options.n_context < 2 || options.n_context > engine.options().n_context) {
    return fail(Errc::invalid_argument, "ctx-size is {}, must be 2 to {}", options.n_context,
                engine.options().n_context);
  }
  if (options.stride < 1 || options.stride >= options.n_context) {
    return fail(Errc::invalid_argument, "stride is {}, must be 1 to {} (less than the context)",
                options.stride, options.n_context - 1);
  }
  if (n_tokens < 2) {
    return fail(Errc::invalid_argument, "the text has {} token(s), at least 2 are needed",
                n_tokens);
  }
  return {};
}

Result<PerplexityResult> measure_perplexity(Engine& engine, std::string_view text,
                                            const PerplexityOptions& options,
                                            const PerplexityProgress& progress) {
  const Tokenizer& tokenizer = engine.tokenizer();
  const std::vector<TokenId> tokens = literal_tokens(tokenizer, text, options.max_tokens);
  const bool cut = options.max_tokens > 0 && tokens.size() == options.max_tokens;
  LARDER_TRY(check_windows(engine, options, tokens.size()));
  const auto windows = plan_windows(tokens.size(), options, begins_with_bos(tokenizer));
  WindowRunner runner(engine, tokens, windows, false);
  LARDER_ASSIGN(PerplexityResult result, runner.run(options.n_parallel, progress));
  const std::size_t n_bytes = cut ? tokenizer.decode(tokens, true).size() : text.size();
  const auto unscored = std::span(tokens).first(windows.front().score_begin);
  result.n_scored_bytes = n_bytes - std::min(n_bytes, tokenizer.decode(unscored, true).size());
  return result;
}

Result<PerplexityResult> measure_perplexity(Engine& engine, std::string_view text,
                                            const ContinuationOptions& options,
                                            const PerplexityProgress& progress) {
  const Tokenizer& tokenizer = engine.tokenizer();
  const std::vector<TokenId> tokens = literal_tokens(tokenizer, text, options.max_tokens);
  LARDER_TRY(check_continuations(engine, options, tokens.size()));
  const auto windows = plan_continuations(tokens.size(), options, begins_with_bos(tokenizer));
  WindowRunner runner(engine, tokens, windows, true);
  LARDER_ASSIGN(PerplexityResult result, runner.run(1, progress));
  for (const Window& window : windows) {
    const auto scored = std::span(tokens).subspan(window.score_begin, options.n_continuation);
    for (const TokenId id : scored) result.n_scored_bytes += tokenizer.piece(id, true).size();
  }
  return result;
}

}  // namespace larder
