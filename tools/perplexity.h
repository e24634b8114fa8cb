// Perplexity of a text under a model, by sliding windows, through the path that serves.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "continuation.h"
#include "larder/engine.h"
#include "model/text/tokenizer.h"

namespace larder {

struct PerplexityOptions {
  std::uint32_t n_context = 0;   // tokens of a window, BOS included; at most the engine's
  std::uint32_t stride = 0;      // by how much the window moves: 1..n_context
  std::uint64_t max_tokens = 0;  // of the text; 0: all
  std::uint32_t n_parallel = 1;  // windows in flight
};

struct PerplexityResult {
  std::uint64_t n_text_tokens = 0;
  std::uint64_t n_scored_tokens = 0;
  std::uint64_t n_scored_bytes = 0;  // UTF-8 bytes of the text that the scored tokens cover
  std::uint32_t n_windows = 0;
  bool bos = false;  // every window begins with BOS
  double total_bits = 0;
  double nll_variance = 0;  // of a token's negative log-probability, nats squared
  double seconds = 0;

  double bits_per_token() const { return total_bits / static_cast<double>(n_scored_tokens); }
  double bits_per_byte() const { return total_bits / static_cast<double>(n_scored_bytes); }
  double perplexity() const;
  /// Standard error of the perplexity, tokens taken as independent.
  double perplexity_error() const;
};

/// The first window scores everything it can, the later ones their last `stride` tokens, so each
/// token is scored once, with at least n_context - stride tokens before it. Without BOS the very
/// first token has no prediction and is not scored.
std::vector<Window> plan_windows(std::uint64_t n_tokens, const PerplexityOptions& options,
                                 bool bos);

/// Whether the model's file asks for BOS before a text.
bool begins_with_bos(const Tokenizer& tokenizer);

/// The text's tokens, taken literally: no special tokens are read out of it. At most `max_tokens`
/// (0: all).
std::vector<TokenId> literal_tokens(const Tokenizer& tokenizer, std::string_view text,
                                    std::uint64_t max_tokens);

/// Errors: invalid_argument (a context that the engine does not have, a stride that is not within
/// it, fewer than two tokens).
Result<void> check_windows(const Engine& engine, const PerplexityOptions& options,
                           std::size_t n_tokens);

/// Called with the fraction done and the perplexity so far.
using PerplexityProgress = std::function<void(double fraction, double perplexity)>;

/// Text is taken literally: no special tokens are read out of it. Errors: invalid_argument (empty
/// text, options out of range), unavailable (Ctrl-C), corrupt (a log-probability or the perplexity
/// is not finite; names the model), the engine's.
Result<PerplexityResult> measure_perplexity(Engine& engine, std::string_view text,
                                            const PerplexityOptions& options,
                                            const PerplexityProgress& progress);

/// The same where a context is cached first, and what follows is scored from the cache.
Result<PerplexityResult> measure_perplexity(Engine& engine, std::string_view text,
                                            const ContinuationOptions& options,
                                            const PerplexityProgress& progress);

}  // namespace larder
