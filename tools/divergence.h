// How far a model's distributions are from a reference's on the same text.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "continuation.h"
#include "larder/engine.h"
#include "perplexity.h"

namespace larder {

/// One position: reference against model. Natural logarithms, sums in double precision.
struct PositionDivergence {
  double kl = 0;                              // sum over tokens of p_ref (ln p_ref - ln p_model)
  double reference_nats = 0, model_nats = 0;  // negative log-probability of the text's token
  bool same_top = false;                      // both find the same token most likely
};

/// reference, model: logits [n_vocab] of the same position; `token` is what stands there.
PositionDivergence position_divergence(std::span<const float> reference,
                                       std::span<const float> model, std::int32_t token);

struct DivergenceResult {
  std::uint64_t n_text_tokens = 0, n_scored_tokens = 0;
  std::uint32_t n_windows = 0;
  bool bos = false;                               // every window begins with BOS
  double mean = 0, median = 0, p99 = 0, max = 0;  // KL(reference || model), nats
  double top1_agreement = 0;                      // share of positions, 0..1
  double rms_probability_change = 0;              // of the text's token
  double perplexity = 0, reference_perplexity = 0;
  /// Of the cached contexts, from the allocator, open blocks included; 0: nothing was cached.
  double model_bytes_per_token = 0, reference_bytes_per_token = 0;
  double seconds = 0;
};

/// Quantiles are values that occurred: the smallest that at least the share of positions does not
/// exceed. REQUIRES: positions is not empty. Fills the figures, not the counts.
DivergenceResult summarise(std::span<const PositionDivergence> positions);

using DivergenceProgress = std::function<void(double fraction, double mean_kl)>;

/// Both engines compute the same windows (as measure_perplexity cuts them), one at a time; the
/// reference may be another model with the same vocabulary, or the same one with other options.
/// Memory: the logits of about one step of each engine (see logit_bounded_batch).
/// Errors: invalid_argument (vocabularies that differ, empty text, options out of range),
/// unavailable (Ctrl-C), corrupt (a figure is not finite), the engines'.
Result<DivergenceResult> measure_divergence(Engine& model, Engine& reference, std::string_view text,
                                            const PerplexityOptions& options,
                                            const DivergenceProgress& progress);

/// The same where a context is cached first, and what follows is scored from the cache.
Result<DivergenceResult> measure_divergence(Engine& model, Engine& reference, std::string_view text,
                                            const ContinuationOptions& options,
                                            const DivergenceProgress& progress);

/// Rows of a step whose logits together take at most 64 MiB; at least 8, at most `n_batch`.
std::uint32_t logit_bounded_batch(std::uint32_t n_batch, std::uint32_t n_vocab);

}  // namespace larder
