#include "model/config.h"

#include <algorithm>
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
constexpr std::uint32_t kMaxRank = 1U << 14;
constexpr std::uint32_t kMaxExperts = 1024;

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

void check_latent(const ModelConfig& c, const std::string& origin, Rules& rules) {
  const LatentConfig& latent = c.latent;
  rules.count("latent width (kv_lora_rank)", latent.kv_rank, kMaxRank);
  rules.require(latent.q_rank <= kMaxRank, "{}: query latent width (q_lora_rank) is {}, at most {}",
                origin, latent.q_rank, kMaxRank);
  rules.count("head's channels without rope", latent.nope_dim, kMaxHeadDim);
  rules.count("head's channels with rope", latent.rope_dim, kMaxHeadDim);
  rules.count("value head dimension", latent.v_dim, kMaxHeadDim);
  rules.require(latent.row_dim() % 2 == 0, "{}: latent and rope width {} + {} is odd", origin,
                latent.kv_rank, latent.rope_dim);
  rules.require(latent.nope_dim + latent.rope_dim == c.head_dim,
                "{}: head dimension {} is not {} channels without and {} with rope", origin,
                c.head_dim, latent.nope_dim, latent.rope_dim);
  rules.require(c.rope.n_rot == latent.rope_dim, "{}: {} of the {} rope channels rotate", origin,
                c.rope.n_rot, latent.rope_dim);
  rules.require(c.n_kv_heads == 1, "{}: latent attention with {} KV heads", origin, c.n_kv_heads);
  rules.require(c.window == 0 && c.attention_soft_cap == 0 && c.kv_owner.empty(),
                "{}: latent attention with a window, a soft cap or shared layers", origin);
}

void check_experts(const ModelConfig& c, const std::string& origin, Rules& rules) {
  const ExpertConfig& e = c.experts;
  rules.count("number of experts", e.n_experts, kMaxExperts);
  rules.count("experts per token", e.n_used, e.n_experts);
  rules.require(e.n_shared <= kMaxExperts, "{}: number of shared experts is {}, at most {}", origin,
                e.n_shared, kMaxExperts);
  rules.count("expert feed-forward length", e.n_ff, kMaxFeedForward);
  rules.require(std::uint64_t{e.n_shared} * e.n_ff <= kMaxFeedForward,
                "{}: shared experts of {} x {} are wider than {}", origin, e.n_shared, e.n_ff,
                kMaxFeedForward);
  rules.require(e.n_dense_layers <= c.n_layers, "{}: {} of {} layers are dense", origin,
                e.n_dense_layers, c.n_layers);
  rules.count("expert groups", e.n_groups, e.n_experts);
  rules.count("expert groups per token", e.n_groups_used, e.n_groups);
  rules.require(e.n_groups == 0 || (e.n_experts % e.n_groups == 0 &&
                                    e.n_used <= e.n_experts / e.n_groups * e.n_groups_used),
                "{}: {} experts in {} groups, {} of them used, cannot give {} to a token", origin,
                e.n_experts, e.n_groups, e.n_groups_used, e.n_used);
  rules.positive("scale of the experts' weights", e.weights_scale, 1e6);
}

/// Owners come before their readers and own their K and V themselves.
void check_owners(const ModelConfig& c, const std::string& origin, Rules& rules) {
  rules.require(c.kv_owner.size() == c.n_layers, "{}: kv_owner has {} entries, expected {}", origin,
                c.kv_owner.size(), c.n_layers);
  if (c.kv_owner.size() != c.n_layers) return;
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const std::uint32_t owner = c.kv_owner[layer];
    rules.require(owner <= layer && c.kv_owner[owner] == owner,
                  "{}: kv_owner of layer {} is {}, expected itself or an earlier layer that owns",
                  origin, layer, owner);
  }
}

}  // namespace

float ModelConfig::score_scale() const noexcept {
  return attention_scale != 0 ? attention_scale : 1.0F / std::sqrt(static_cast<float>(head_dim));
}

std::uint32_t ModelConfig::n_owners() const noexcept {
  std::uint32_t n = 0;
  for (std::uint32_t layer = 0; layer < n_layers; ++layer) n += owns_kv(layer) ? 1 : 0;
  return n;
}

std::uint32_t ModelConfig::cache_window(std::uint32_t owning) const noexcept {
  std::uint32_t widest = 0;
  for (std::uint32_t layer = 0; layer < n_layers; ++layer) {
    if (owner(layer) != owning) continue;
    if (layer_window(layer) == 0) return 0;
    widest = std::max(widest, layer_window(layer));
  }
  return widest;
}

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
  rules.not_negative("rope mscale_all_dim", config.rope.mscale_all_dim);
  if (config.has_latent()) check_latent(config, origin, rules);
  if (config.experts.n_experts != 0) check_experts(config, origin, rules);
  if (!config.kv_owner.empty()) check_owners(config, origin, rules);
  return rules.outcome();
}

}  // namespace larder
