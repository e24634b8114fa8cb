// Logits to a token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/block_id.h"
#include "larder/engine.h"
#include "larder/result.h"

namespace larder {

/// All rules on sampling values in one place; messages name the field and the value.
Result<void> validate(const SamplingOptions& options, std::uint32_t n_vocab);

/// Draws the tokens of one continuation. Its own random stream (seed, sample index), one draw per token, so
/// that the text depends on the seed and the logits alone. Not thread-safe. After construction it
/// allocates only when the vocabulary is larger than any before.
class Sampler {
 public:
  Sampler(const SamplingOptions& options, std::uint32_t sample_index, std::uint32_t n_vocab);
  /// `logits` [n_vocab] of the model; `history`: prompt and continuation so far, oldest first.
  TokenId sample(std::span<const float> logits, std::span<const TokenId> history);
  // private part: the implementer's
};

/// Natural-log probability of `token` under softmax(logits).
float log_probability(std::span<const float> logits, TokenId token);
/// The k best, best first (ties: lower id first).
std::vector<TokenLogprob> top_log_probabilities(std::span<const float> logits, std::uint32_t k);

}  // namespace larder
