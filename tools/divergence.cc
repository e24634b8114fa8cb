#include "divergence.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <utility>

#include "base/fail.h"
#include "base/thread_pool.h"
#include "cached_context.h"
#include "model/config.h"
#include "model/text/tokenizer.h"
#include "terminal.h"

namespace larder {
namespace {

using Clock = std::chrono::steady_clock;

/// ln of the sum of exponentials.
double log_sum(std::span<const float> logits, float max) {
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - max);
  return max + std::log(sum);
}

/// An engine that scores one window after the other; rows wait here until the other has them too.
class LogitStream {
 public:
  explicit LogitStream(Engine& engine) : engine_(engine) {}

  /// Logits come for prompt[begin] and what follows. With `from_cache` the tokens before are
  /// computed first, as a request of their own.
  Result<void> submit(std::vector<TokenId> prompt, std::uint32_t begin, bool from_cache) {
    Request request;
    if (from_cache) {
      const auto n_cached = static_cast<std::ptrdiff_t>(begin - 1);
      LARDER_ASSIGN(const CachedContext context,
                    cache_context(engine_, {prompt.begin(), prompt.begin() + n_cached}));
      request.reuse = kept_ = context.id;
      request.n_read_in_full = static_cast<std::uint32_t>(n_cached);
      n_cached_tokens_ += begin - 1;
      cached_bytes_ += context.kv_bytes;
    }
    request.prompt = std::move(prompt);
    request.max_tokens = 1;
    request.prompt_logprobs = true;
    request.prompt_logprobs_begin = begin;
    request.sampling.temperature = 0;
    request.prompt_logits = [this](const PromptLogits& row) {
      std::vector<float> copy = spare();
      copy.assign(row.logits.begin(), row.logits.end());
      rows_.push_back(std::move(copy));
    };
    LARDER_ASSIGN([[maybe_unused]] const RequestId id, engine_.submit(std::move(request)));
    return {};
  }
  Result<void> step() {
    LARDER_ASSIGN([[maybe_unused]] const StepReport report, engine_.step());
    return {};
  }
  bool idle() const { return engine_.idle(); }
  void release() { engine_.release(kept_); }
  /// Of the cached contexts, from the allocator; 0 when there were none.
  double bytes_per_token() const {
    return static_cast<double>(cached_bytes_) /
           static_cast<double>(std::max<std::uint64_t>(1, n_cached_tokens_));
  }
  const std::deque<std::vector<float>>& rows() const { return rows_; }
  void drop(std::size_t n) {
    for (; n > 0; --n) {
      spares_.push_back(std::move(rows_.front()));
      rows_.pop_front();
    }
  }

 private:
  std::vector<float> spare() {
    if (spares_.empty()) return {};
    std::vector<float> row = std::move(spares_.back());
    spares_.pop_back();
    return row;
  }
  Engine& engine_;
  std::deque<std::vector<float>> rows_;
  std::vector<std::vector<float>> spares_;  // memory to use again
  RequestId kept_ = 0;
  std::uint64_t n_cached_tokens_ = 0, cached_bytes_ = 0;
};

class PairRunner {
 public:
  PairRunner(Engine& model, Engine& reference, std::span<const TokenId> tokens, bool from_cache)
      : model_(model),
        reference_(reference),
        pool_(std::max(1U, model.options().n_threads)),
        tokens_(tokens),
        bos_(begins_with_bos(model.tokenizer()) ? model.tokenizer().data().bos : kNoToken),
        from_cache_(from_cache) {}

  Result<void> run(std::span<const Window> windows, const DivergenceProgress& progress) {
    for (const Window& window : windows) n_to_score_ += window.end - window.score_begin;
    for (const Window& window : windows) LARDER_TRY(run_window(window, progress));
    return {};
  }
  const std::vector<PositionDivergence>& positions() const { return positions_; }
  double model_bytes_per_token() const { return model_.bytes_per_token(); }
  double reference_bytes_per_token() const { return reference_.bytes_per_token(); }

 private:
  Result<void> run_window(const Window& window, const DivergenceProgress& progress) {
    std::vector<TokenId> prompt;
    if (bos_ != kNoToken) prompt.push_back(bos_);
    const auto part = tokens_.subspan(window.begin, window.end - window.begin);
    const auto begin =
        static_cast<std::uint32_t>(prompt.size() + window.score_begin - window.begin);
    prompt.insert(prompt.end(), part.begin(), part.end());
    std::uint64_t next = window.score_begin;
    LARDER_TRY(reference_.submit(prompt, begin, from_cache_));
    LARDER_TRY(model_.submit(std::move(prompt), begin, from_cache_));
    while (!reference_.idle() || !model_.idle()) {
      if (InterruptGuard::interrupted()) return fail(Errc::unavailable, "interrupted");
      // The one that is behind, so that few rows wait.
      const bool model_next =
          reference_.idle() || (!model_.idle() && model_.rows().size() < reference_.rows().size());
      LARDER_TRY((model_next ? model_ : reference_).step());
      next = compare(next);
      if (!positions_.empty()) {
        progress(static_cast<double>(positions_.size()) / static_cast<double>(n_to_score_),
                 kl_sum_ / static_cast<double>(positions_.size()));
      }
    }
    model_.release();
    reference_.release();
    return {};
  }

  /// Compares the rows that both have; returns the text token that the next row predicts.
  std::uint64_t compare(std::uint64_t next) {
    const std::size_t n = std::min(model_.rows().size(), reference_.rows().size());
    const std::size_t first = positions_.size();
    positions_.resize(first + n);
    pool_.for_each(n, [&](std::size_t i, unsigned) {
      positions_[first + i] =
          position_divergence(reference_.rows()[i], model_.rows()[i], tokens_[next + i]);
    });
    for (std::size_t i = first; i < positions_.size(); ++i) kl_sum_ += positions_[i].kl;
    model_.drop(n);
    reference_.drop(n);
    return next + n;
  }

  LogitStream model_, reference_;
  ThreadPool pool_;
  std::span<const TokenId> tokens_;
  TokenId bos_;      // kNoToken: windows begin without
  bool from_cache_;  // what comes before the scored tokens
  std::uint64_t n_to_score_ = 0;
  std::vector<PositionDivergence> positions_;  // in text order
  double kl_sum_ = 0;                          // for the progress bar
};

Result<void> check_vocabularies(const Engine& model, const Engine& reference) {
  const TokenizerData &a = model.tokenizer().data(), &b = reference.tokenizer().data();
  const auto n_a = model.config().n_vocab, n_b = reference.config().n_vocab;
  if (n_a != n_b || a.tokens != b.tokens || a.add_bos != b.add_bos || a.bos != b.bos) {
    return fail(Errc::invalid_argument,
                "{} ({} tokens) and {} ({} tokens) have different vocabularies; {}",
                model.options().model_path, n_a, reference.options().model_path, n_b,
                "distributions are compared token by token");
  }
  return {};
}

struct EnginePair {
  Engine &model, &reference;
};

Result<DivergenceResult> compare_windows(EnginePair engines, std::span<const TokenId> tokens,
                                         std::span<const Window> windows, bool from_cache,
                                         const DivergenceProgress& progress) {
  PairRunner runner(engines.model, engines.reference, tokens, from_cache);
  const auto begin = Clock::now();
  LARDER_TRY(runner.run(windows, progress));
  DivergenceResult result = summarise(runner.positions());
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  result.n_text_tokens = tokens.size();
  result.n_windows = static_cast<std::uint32_t>(windows.size());
  result.bos = begins_with_bos(engines.model.tokenizer());
  result.model_bytes_per_token = runner.model_bytes_per_token();
  result.reference_bytes_per_token = runner.reference_bytes_per_token();
  if (!std::isfinite(result.mean) || !std::isfinite(result.perplexity) ||
      !std::isfinite(result.reference_perplexity)) {
    return fail(Errc::corrupt, "{} against {}: the divergence is {}, so weights are damaged",
                engines.model.options().model_path, engines.reference.options().model_path,
                result.mean);
  }
  return result;
}

double quantile(const std::vector<double>& sorted, double share) {
  const double n = static_cast<double>(sorted.size());
  const auto at = static_cast<std::size_t>(std::max(0.0, std::ceil(share * n) - 1));
  return sorted[std::min(at, sorted.size() - 1)];
}

}  // namespace

PositionDivergence position_divergence(std::span<const float> reference,
                                       std::span<const float> model, std::int32_t token) {
  const auto top_ref = std::max_element(reference.begin(), reference.end());
  const auto top_model = std::max_element(model.begin(), model.end());
  const double sum_ref = log_sum(reference, *top_ref);
  const double sum_model = log_sum(model, *top_model);
  PositionDivergence out;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double log_p = reference[i] - sum_ref;
    out.kl += std::exp(log_p) * (log_p - (model[i] - sum_model));
  }
  out.kl = std::max(0.0, out.kl);  // rounding of equal distributions
  const auto at = static_cast<std::size_t>(token);
  out.reference_nats = sum_ref - reference[at];
  out.model_nats = sum_model - model[at];
  out.same_top = top_ref - reference.begin() == top_model - model.begin();
  return out;
}

DivergenceResult summarise(std::span<const PositionDivergence> positions) {
  DivergenceResult result;
  std::vector<double> sorted;
  sorted.reserve(positions.size());
  double kl = 0, model_nats = 0, reference_nats = 0, squares = 0;
  std::uint64_t n_same = 0;
  for (const PositionDivergence& p : positions) {
    sorted.push_back(p.kl);
    kl += p.kl;
    model_nats += p.model_nats;
    reference_nats += p.reference_nats;
    const double change = std::exp(-p.model_nats) - std::exp(-p.reference_nats);
    squares += change * change;
    n_same += p.same_top ? 1 : 0;
  }
  std::sort(sorted.begin(), sorted.end());
  const double n = static_cast<double>(positions.size());
  result.n_scored_tokens = positions.size();
  result.mean = kl / n;
  result.median = quantile(sorted, 0.5);
  result.p99 = quantile(sorted, 0.99);
  result.max = sorted.back();
  result.top1_agreement = static_cast<double>(n_same) / n;
  result.rms_probability_change = std::sqrt(squares / n);
  result.perplexity = std::exp(model_nats / n);
  result.reference_perplexity = std::exp(reference_nats / n);
  return result;
}

Result<DivergenceResult> measure_divergence(Engine& model, Engine& reference, std::string_view text,
                                            const PerplexityOptions& options,
                                            const DivergenceProgress& progress) {
  LARDER_TRY(check_vocabularies(model, reference));
  const std::vector<TokenId> tokens = literal_tokens(model.tokenizer(), text, options.max_tokens);
  LARDER_TRY(check_windows(model, options, tokens.size()));
  LARDER_TRY(check_windows(reference, options, tokens.size()));
  const auto windows = plan_windows(tokens.size(), options, begins_with_bos(model.tokenizer()));
  return compare_windows({model, reference}, tokens, windows, false, progress);
}

Result<DivergenceResult> measure_divergence(Engine& model, Engine& reference, std::string_view text,
                                            const ContinuationOptions& options,
                                            const DivergenceProgress& progress) {
  LARDER_TRY(check_vocabularies(model, reference));
  const std::vector<TokenId> tokens = literal_tokens(model.tokenizer(), text, options.max_tokens);
  LARDER_TRY(check_continuations(model, options, tokens.size()));
  LARDER_TRY(check_continuations(reference, options, tokens.size()));
  const auto windows =
      plan_continuations(tokens.size(), options, begins_with_bos(model.tokenizer()));
  return compare_windows({model, reference}, tokens, windows, true, progress);
}

std::uint32_t logit_bounded_batch(std::uint32_t n_batch, std::uint32_t n_vocab) {
  constexpr std::uint32_t kFloats = (64U << 20) / sizeof(float);
  return std::min(n_batch, std::max(8U, kFloats / std::max(1U, n_vocab)));
}

}  // namespace larder
