#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "base/check.h"
#include "base/fail.h"

namespace larder {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

// Ordered and safe to subtract: NaN becomes -inf, +inf the largest finite number.
float sanitize(float logit) {
  return logit <= kLargest ? logit : (logit > 0 ? kLargest : -kInfinity);
}

float highest(std::span<const float> logits) {
  float best = -kInfinity;
  for (const float logit : logits) best = std::max(best, sanitize(logit));
  return best;
}

// log(sum(exp(logits - best))): relative to the best, so that no digits are lost to large logits.
double log_sum_exp(std::span<const float> logits, float best) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(sanitize(logit) - best);
  return std::log(sum);
}

float log_probability(float logit, float best, double lse) {
  return static_cast<float>(sanitize(logit) - best - lse);
}

std::uint64_t mix(std::uint64_t x) noexcept {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

bool within(float x, float low, float high) { return x >= low && x <= high; }  // false for NaN

}  // namespace

Result<void> validate(const SamplingOptions& options, std::uint32_t n_vocab) {
  const auto refuse = [](const char* field, float value, const char* rule) {
    return fail(Errc::invalid_argument, "{} must be {}, not {}", field, rule, value);
  };
  if (!within(options.temperature, 0, kLargest)) {
    return refuse("temperature", options.temperature, "a number from 0 upwards");
  }
  if (!within(options.top_p, 0, 1)) return refuse("top_p", options.top_p, "from 0 to 1");
  if (!within(options.min_p, 0, 1)) return refuse("min_p", options.min_p, "from 0 to 1");
  if (!within(options.repetition_penalty, std::numeric_limits<float>::min(), kLargest)) {
    return refuse("repetition_penalty", options.repetition_penalty, "a number above 0");
  }
  if (!within(options.presence_penalty, -2, 2)) {
    return refuse("presence_penalty", options.presence_penalty, "from -2 to 2");
  }
  if (!within(options.frequency_penalty, -2, 2)) {
    return refuse("frequency_penalty", options.frequency_penalty, "from -2 to 2");
  }
  for (const auto& [token, bias] : options.logit_bias) {
    if (token < 0 || static_cast<std::uint32_t>(token) >= n_vocab) {
      return fail(Errc::invalid_argument, "logit_bias: token {} is outside the vocabulary of {}",
                  token, n_vocab);
    }
    if (!within(bias, -kInfinity, kLargest)) {
      return fail(Errc::invalid_argument,
                  "logit_bias: the bias of token {} must be a number or -inf, not {}", token, bias);
    }
  }
  return {};
}

std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream,
                          std::uint64_t counter) noexcept {
  constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15ULL;
  const std::uint64_t key = mix(mix(seed + kGolden) + stream * kGolden);
  return mix(key + (counter + 1) * kGolden);
}

Sampler::Sampler(const SamplingOptions& options, std::uint32_t sample_index, std::uint32_t n_vocab)
    : options_(options), sample_index_(sample_index) {
  if (changes_logits()) {
    adjusted_.resize(n_vocab);
    counts_.resize(n_vocab);
  }
  if (options_.temperature == 0) return;
  const std::size_t k = options_.top_k;
  candidates_.reserve(k > 0 && k < n_vocab ? k : n_vocab);
}

TokenId Sampler::sample(std::span<const float> logits, std::span<const TokenId> history,
                        const TokenMask* open) {
  if (!n_prompt_) n_prompt_ = history.size();
  if (changes_logits()) logits = adjust(logits, history);
  if (open != nullptr) logits = keep_open(logits, *open);
  best_logit_ = highest(logits);
  if (best_logit_ == -kInfinity) return open != nullptr ? open->first() : 0;
  if (options_.temperature == 0) {
    const auto best = std::find_if(logits.begin(), logits.end(),
                                   [this](float x) { return sanitize(x) == best_logit_; });
    return static_cast<TokenId>(best - logits.begin());
  }
  const std::size_t k = options_.top_k;
  if (k > 0 && k < logits.size()) {
    keep_best(logits, k);
  } else {
    collect(logits);
  }
  if (options_.top_p < 1) keep_nucleus();
  if (options_.min_p > 0) keep_likely();
  return draw();
}

bool Sampler::changes_logits() const noexcept {
  return (options_.repetition_penalty != 1 && options_.penalty_window > 0) ||
         options_.presence_penalty != 0 || options_.frequency_penalty != 0 ||
         !options_.logit_bias.empty();
}

std::span<const float> Sampler::adjust(std::span<const float> logits,
                                       std::span<const TokenId> history) {
  adjusted_.resize(std::max(adjusted_.size(), logits.size()));
  counts_.resize(adjusted_.size());
  const auto out = std::span(adjusted_).first(logits.size());
  std::transform(logits.begin(), logits.end(), out.begin(), sanitize);
  // Calls fn(logit, count) once for each distinct token of `tokens`.
  const auto for_each_distinct = [&](std::span<const TokenId> tokens, auto&& fn) {
    const auto known = [&](TokenId t) {
      return t >= 0 && static_cast<std::size_t>(t) < out.size();
    };
    for (const TokenId t : tokens) {
      if (known(t)) ++counts_[static_cast<std::size_t>(t)];
    }
    for (const TokenId t : tokens) {
      if (!known(t) || counts_[static_cast<std::size_t>(t)] == 0) continue;
      fn(out[static_cast<std::size_t>(t)], counts_[static_cast<std::size_t>(t)]);
      counts_[static_cast<std::size_t>(t)] = 0;
    }
  };
  if (options_.repetition_penalty != 1) {
    const std::size_t n = std::min<std::size_t>(options_.penalty_window, history.size());
    for_each_distinct(history.last(n), [this](float& logit, std::uint32_t) {
      logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    });
  }
  if (options_.presence_penalty != 0 || options_.frequency_penalty != 0) {
    const std::size_t n = history.size() - std::min(*n_prompt_, history.size());
    for_each_distinct(history.last(n), [this](float& logit, std::uint32_t count) {
      logit -= options_.presence_penalty + static_cast<float>(count) * options_.frequency_penalty;
    });
  }
  for (const auto& [token, bias] : options_.logit_bias) {
    if (static_cast<std::size_t>(token) < out.size()) out[static_cast<std::size_t>(token)] += bias;
  }
  return out;
}

/// In place when `logits` were adjusted already.
std::span<const float> Sampler::keep_open(std::span<const float> logits, const TokenMask& open) {
  adjusted_.resize(std::max(adjusted_.size(), logits.size()));
  for (std::size_t begin = 0; begin < logits.size(); begin += 64) {
    const std::uint64_t word = open.word(begin / 64);
    const std::size_t n = std::min<std::size_t>(64, logits.size() - begin);
    for (std::size_t i = 0; i < n; ++i) {
      adjusted_[begin + i] = ((word >> i) & 1U) != 0 ? logits[begin + i] : -kInfinity;
    }
  }
  return std::span(adjusted_).first(logits.size());
}

void Sampler::collect(std::span<const float> logits) {
  candidates_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float logit = sanitize(logits[i]);
    if (logit > -kInfinity) candidates_.push_back({logit, static_cast<TokenId>(i)});
  }
}

// Best first. A heap with the worst on top: of 150000 logits nearly all fail one comparison.
void Sampler::keep_best(std::span<const float> logits, std::size_t k) {
  candidates_.clear();
  float worst = -kInfinity;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    // A later token with an equal logit comes after those in the heap, and NaN compares false.
    if (!(logits[i] > worst) || !(sanitize(logits[i]) > worst)) continue;
    if (candidates_.size() == k) {
      std::pop_heap(candidates_.begin(), candidates_.end(), better);
      candidates_.pop_back();
    }
    candidates_.push_back({sanitize(logits[i]), static_cast<TokenId>(i)});
    std::push_heap(candidates_.begin(), candidates_.end(), better);
    if (candidates_.size() == k) worst = candidates_.front().logit;
  }
  std::sort_heap(candidates_.begin(), candidates_.end(), better);
}

// The shortest run of best tokens whose probabilities reach top_p (Holtzman et al. 2020,
// arXiv:1904.09751). Sorts only as many as it takes.
void Sampler::keep_nucleus() {
  double total = 0;
  for (const Candidate& c : candidates_) total += weight(c.logit);
  const double wanted = options_.top_p * total;
  double sum = 0;
  std::size_t n_sorted = 0;
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    if (i == n_sorted) {
      n_sorted = std::min(candidates_.size(), std::max<std::size_t>(256, 8 * n_sorted));
      const auto begin = candidates_.begin() + static_cast<std::ptrdiff_t>(i);
      const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(n_sorted);
      std::nth_element(begin, end - 1, candidates_.end(), better);
      std::sort(begin, end, better);
    }
    sum += weight(candidates_[i].logit);
    if (sum >= wanted) {
      candidates_.resize(i + 1);
      return;
    }
  }
}

// Tokens at least min_p times as probable as the best (Nguyen et al. 2024, arXiv:2407.01082).
void Sampler::keep_likely() {
  const auto unlikely = [this](const Candidate& c) { return weight(c.logit) < options_.min_p; };
  candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(), unlikely),
                    candidates_.end());
}

TokenId Sampler::draw() {
  double total = 0;
  for (const Candidate& c : candidates_) total += weight(c.logit);
  const std::uint64_t bits = random_bits(options_.seed, sample_index_, n_drawn_++);
  const double target = static_cast<double>(bits >> 11) * 0x1p-53 * total;
  double sum = 0;
  for (const Candidate& c : candidates_) {
    sum += weight(c.logit);
    if (sum > target) return c.token;
  }
  return candidates_.back().token;
}

// Probability relative to the best token's: 1 for that one whatever the temperature.
double Sampler::weight(float logit) const noexcept {
  return std::exp((logit - best_logit_) / options_.temperature);
}

float log_probability(std::span<const float> logits, TokenId token) {
  LARDER_CHECK(token >= 0 && static_cast<std::size_t>(token) < logits.size());
  const float best = highest(logits);
  if (best == -kInfinity) return -kInfinity;
  return log_probability(logits[static_cast<std::size_t>(token)], best, log_sum_exp(logits, best));
}

std::vector<TokenLogprob> top_log_probabilities(std::span<const float> logits, std::uint32_t k) {
  const auto better = [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
  };
  const std::size_t n = std::min<std::size_t>(k, logits.size());
  std::vector<TokenLogprob> top;  // a heap with the worst on top, which nearly all fail to beat
  top.reserve(n);
  for (std::size_t i = 0; n > 0 && i < logits.size(); ++i) {
    const TokenLogprob entry{static_cast<TokenId>(i), sanitize(logits[i])};
    if (top.size() == n) {
      if (!better(entry, top.front())) continue;
      std::pop_heap(top.begin(), top.end(), better);
      top.pop_back();
    }
    top.push_back(entry);
    std::push_heap(top.begin(), top.end(), better);
  }
  std::sort_heap(top.begin(), top.end(), better);
  if (top.empty() || top.front().logprob == -kInfinity) return top;
  const float best = top.front().logprob;
  const double lse = log_sum_exp(logits, best);
  for (TokenLogprob& entry : top) entry.logprob = log_probability(entry.logprob, best, lse);
  return top;
}

}  // namespace larder
