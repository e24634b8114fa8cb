// Logits to a token.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/block_id.h"
#include "grammar/token_bytes.h"
#include "larder/engine.h"
#include "larder/result.h"

namespace larder {

/// All rules on sampling values in one place; messages name the field and the value.
Result<void> validate(const SamplingOptions& options, std::uint32_t n_vocab);

/// Random numbers without state: entry `counter` of stream (seed, stream), uniform over 64 bits and
/// the same on every machine. Method: SplitMix64 (Steele, Lea & Flood 2014,
/// doi:10.1145/2660193.2660195).
std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t counter) noexcept;

/// Draws the tokens of one continuation. Its own random stream (seed, sample index), one draw per
/// token, so that the text depends on the seed and the logits alone. Not thread-safe. After
/// construction it allocates only when the vocabulary is larger than any before.
///
/// Penalties: the repetition penalty looks at the newest `penalty_window` tokens of prompt and
/// continuation, once per distinct token (Keskar et al. 2019, arXiv:1909.05858). Presence (once per
/// distinct token) and frequency (times its count) look at the whole continuation, that is at all
/// tokens of `history` beyond those of the first call. A NaN logit counts as -inf, +inf as the
/// largest finite number; where every logit is NaN or -inf the token is 0. Among equal logits the
/// lower id comes first. At temperature 0 the token is the best one and nothing is drawn.
class Sampler {
 public:
  /// REQUIRES: validate(options, n_vocab)
  Sampler(const SamplingOptions& options, std::uint32_t sample_index, std::uint32_t n_vocab);
  /// `logits` [n_vocab] of the model; `history`: prompt and continuation so far, oldest first
  /// (tokens outside the vocabulary are passed over). The first call's history is the prompt.
  /// `open`: the tokens that may be drawn; null: all. Of none that has a chance the lowest id.
  /// REQUIRES: `open` is not empty
  TokenId sample(std::span<const float> logits, std::span<const TokenId> history,
                 const TokenMask* open = nullptr);

 private:
  struct Candidate {
    float logit;
    TokenId token;
  };
  static bool better(const Candidate& a, const Candidate& b) noexcept {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  }
  bool changes_logits() const noexcept;
  std::span<const float> adjust(std::span<const float> logits, std::span<const TokenId> history);
  std::span<const float> keep_open(std::span<const float> logits, const TokenMask& open);
  void collect(std::span<const float> logits);
  void keep_best(std::span<const float> logits, std::size_t k);
  void keep_nucleus();
  void keep_likely();
  TokenId draw();
  double weight(float logit) const noexcept;

  SamplingOptions options_;
  std::uint64_t sample_index_;
  std::uint64_t n_drawn_ = 0;
  std::optional<std::size_t> n_prompt_;  // length of the first call's history
  float best_logit_ = 0;                 // of this call's candidates
  std::vector<float> adjusted_;          // [n_vocab] logits after penalties and bias
  std::vector<std::uint32_t> counts_;    // [n_vocab] all zero between uses
  std::vector<Candidate> candidates_;    // those that may be drawn
};

/// Natural-log probability of `token` under softmax(logits); NaN and infinite logits as in Sampler,
/// -inf when all are -inf. REQUIRES: 0 <= token < logits.size()
float log_probability(std::span<const float> logits, TokenId token);
/// The k best (all, when there are fewer), best first (ties: lower id first).
std::vector<TokenLogprob> top_log_probabilities(std::span<const float> logits, std::uint32_t k);

}  // namespace larder
