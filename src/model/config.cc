#include "model/config.h"

#include <cmath>
#include <string_view>

#include "base/fail.h"

namespace larder {
namespace {

// Several times what the largest published models have; small enough that no product of two of
// them, times the size of an element, overflows or asks for absurd memory by itself.
constexpr std::uint32_t kMaxLayers = 1024;
constexpr std::uint32_t kMaxWidth = 1U << 17;
constexpr std::uint32_t kMaxFeedForward = 1U << 20;
constexpr std::uint32_t kMaxHeads = 1024;
constexpr std::uint32_t kMaxHeadDim = 1024;
constexpr std::uint32_t kMaxVocab = 1U << 22;
constexpr std::uint32_t kMaxContext = 1U << 28;

/// Collects the first broken rule; later ones are not looked at.
class Rules {
 public:
  explicit Rules(const std::string& origin) : origin_(origin) {}

  void count(std::string_view field, std::uint64_t value, std::uint64_t max) {
    require(value >= 1 && value <= max, "{}: {} is {}, expected 1 to {}", origin_, field, value,
            max);
  }
  void positive(std::string_view field, double value, double max) {
    require(std::isfinite(value) && value > 0 && value <= max,
            "{}: {} is {}, expected a number above 0 and at most {}", origin_, field, value, max);
  }
  void not_negative(std::string_view field, double value) {
    require(std::isfinite(value) && value >= 0, "{}: {} is {}, expected 0 or more", origin_, field,
            value);
  }
  void factors(std::string_view field, const std::vector<float>& values, std::size_t n) {
    require(values.size() == n, "{}: {} has {} entries, expected {} (half the rotated channels)",
            origin_, field, values.size(), n);
    for (const float value : values) positive(field, value, 1e9);
  }
  template <class... Args>
  void require(bool holds, fmt::format_string<Args...> format, Args&&... args) {
    if (!holds && message_.empty()) message_ = fmt::format(format, std::forward<Args>(args)...);
  }
  Result<void> outcome() const {
    if (message_.empty()) return {};
    return fail(Errc::corrupt, "{}", message_);
  }

 private:
  const std::string& origin_;
  std::string message_;
};

void check_rope(const ModelConfig& c, const std::string& origin, Rules& rules) {
  const RopeConfig& rope = c.rope;
  rules.require(rope.n_rot > 0 && rope.n_rot % 2 == 0 && rope.n_rot <= c.head_dim,
                "{}: rope dimension count is {}, expected an even number from 2 to the head's {}",
                origin, rope.n_rot, c.head_dim);
  rules.require(std::isfinite(rope.base) && rope.base > 1.0F,
                "{}: rope base is {}, expected a number above 1", origin, rope.base);
  rules.require(rope.local_base == 0 || (std::isfinite(rope.local_base) && rope.local_base > 1.0F),
                "{}: local rope base is {}, expected a number above 1", origin, rope.local_base);
  rules.not_negative("rope attention factor", rope.attention_factor);
  if (rope.scaling != RopeScaling::none) rules.positive("rope scaling factor", rope.factor, 1e6);
  if (rope.scaling == RopeScaling::llama3 || rope.scaling == RopeScaling::yarn ||
      rope.scaling == RopeScaling::longrope) {
    rules.count("rope original context", rope.original_context, kMaxContext);
  }
  if (rope.scaling == RopeScaling::llama3) {
    rules.positive("rope low_freq_factor", rope.low_freq_factor, 1e6);
    rules.positive("rope high_freq_factor", rope.high_freq_factor, 1e6);
    rules.require(rope.high_freq_factor > rope.low_freq_factor,
                  "{}: rope high_freq_factor {} is not above low_freq_factor {}", origin,
                  rope.high_freq_factor, rope.low_freq_factor);
  }
  if (rope.scaling == RopeScaling::yarn) {
    rules.positive("rope beta_fast", rope.beta_fast, 1e6);
    rules.positive("rope beta_slow", rope.beta_slow, 1e6);
  }
  if (rope.scaling == RopeScaling::longrope) {
    rules.factors("rope long factors", rope.long_factors, rope.n_rot / 2);
    rules.factors("rope short factors", rope.short_factors, rope.n_rot / 2);
  }
  if (!rope.frequency_divisors.empty()) {
    rules.factors("rope_freqs.weight", rope.frequency_divisors, rope.n_rot / 2);
  }
}

}  // namespace

Result<void> validate(const ModelConfig& config, const std::string& origin) {
  Rules rules(origin);
  rules.count("number of layers", config.n_layers, kMaxLayers);
  rules.count("embedding length", config.n_embd, kMaxWidth);
  rules.count("feed-forward length", config.n_ff, kMaxFeedForward);
  rules.count("number of heads", config.n_heads, kMaxHeads);
  rules.count("number of KV heads", config.n_kv_heads, kMaxHeads);
  rules.require(config.n_kv_heads == 0 || config.n_heads % config.n_kv_heads == 0,
                "{}: number of heads {} is not a multiple of the number of KV heads {}", origin,
                config.n_heads, config.n_kv_heads);
  rules.count("head dimension", config.head_dim, kMaxHeadDim);
  rules.require(config.head_dim % 2 == 0, "{}: head dimension is {}, expected an even number",
                origin, config.head_dim);
  rules.count("vocabulary size", config.n_vocab, kMaxVocab);
  rules.count("context length", config.n_context_train, kMaxContext);
  rules.positive("norm epsilon", config.norm_eps, 0.1);
  rules.not_negative("attention scale", config.attention_scale);
  rules.not_negative("attention soft cap", config.attention_soft_cap);
  rules.not_negative("logit soft cap", config.logit_soft_cap);
  rules.positive("embedding scale", config.embedding_scale, 1e6);
  rules.require(config.window <= kMaxContext, "{}: sliding window is {}, expected at most {}",
                origin, config.window, kMaxContext);
  rules.require(config.windowed.empty() || config.windowed.size() == config.n_layers,
                "{}: the sliding window pattern has {} layers, expected {}", origin,
                config.windowed.size(), config.n_layers);
  check_rope(config, origin, rules);
  return rules.outcome();
}

}  // namespace larder
