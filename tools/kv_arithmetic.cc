#include "kv_arithmetic.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace larder {
namespace {

constexpr std::uint32_t kBlockTokens = 32;

/// K and V of one token, one layer, all KV heads.
double layer_token_bytes(const KvPlan& plan) {
  const BlockShape shape{kBlockTokens, plan.config->head_dim};
  const auto block_bytes = static_cast<double>(plan.k->k_bytes(shape) + plan.v->v_bytes(shape));
  return block_bytes / kBlockTokens * plan.n_kv_heads;
}

}  // namespace

std::uint32_t n_windowed_layers(const ModelConfig& config) {
  std::uint32_t n = 0;
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    if (config.layer_window(layer) != 0) ++n;
  }
  return n;
}

double token_bytes(const KvPlan& plan) { return layer_token_bytes(plan) * plan.config->n_layers; }

double token_bytes_beyond_window(const KvPlan& plan) {
  return layer_token_bytes(plan) * (plan.config->n_layers - n_windowed_layers(*plan.config));
}

double cache_bytes(const KvPlan& plan, std::uint64_t n_tokens) {
  const std::uint32_t n_windowed = n_windowed_layers(*plan.config);
  const auto all = static_cast<double>(n_tokens);
  const double kept = std::min(all, static_cast<double>(plan.config->window));
  const double rows = all * (plan.config->n_layers - n_windowed) + kept * n_windowed;
  return layer_token_bytes(plan) * rows;
}

std::uint64_t longest_context(const KvPlan& plan, std::uint64_t n_bytes) {
  const auto budget = static_cast<double>(n_bytes);
  const double within = token_bytes(plan);
  const double beyond = token_bytes_beyond_window(plan);
  const double window = n_windowed_layers(*plan.config) == 0 ? 0 : plan.config->window;
  double n_tokens = budget / within;
  if (n_tokens > window && window > 0) {
    if (beyond == 0) return std::numeric_limits<std::uint64_t>::max();
    n_tokens = window + (budget - cache_bytes(plan, plan.config->window)) / beyond;
  }
  return static_cast<std::uint64_t>(n_tokens / kBlockTokens) * kBlockTokens;
}

double bits_per_element(const KvPlan& plan) {
  return layer_token_bytes(plan) * 8 / (2.0 * plan.n_kv_heads * plan.config->head_dim);
}

}  // namespace larder
