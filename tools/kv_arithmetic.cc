#include "kv_arithmetic.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace larder {
namespace {

constexpr std::uint32_t kBlockTokens = 32;

/// K and V of one token, one layer, all KV heads.
double layer_token_bytes(const KvFacts& kv) {
  const BlockShape shape{kBlockTokens, kv.config->head_dim};
  const auto block_bytes = static_cast<double>(kv.k->k_bytes(shape) + kv.v->v_bytes(shape));
  return block_bytes / kBlockTokens * kv.n_kv_heads;
}

}  // namespace

std::uint32_t n_windowed_layers(const ModelConfig& config) {
  std::uint32_t n = 0;
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    if (config.layer_window(layer) != 0) ++n;
  }
  return n;
}

double token_bytes(const KvFacts& kv) { return layer_token_bytes(kv) * kv.config->n_layers; }

double token_bytes_beyond_window(const KvFacts& kv) {
  return layer_token_bytes(kv) * (kv.config->n_layers - n_windowed_layers(*kv.config));
}

double cache_bytes(const KvFacts& kv, std::uint64_t n_tokens) {
  const std::uint32_t n_windowed = n_windowed_layers(*kv.config);
  const auto all = static_cast<double>(n_tokens);
  const double kept = std::min(all, static_cast<double>(kv.config->window));
  const double rows = all * (kv.config->n_layers - n_windowed) + kept * n_windowed;
  return layer_token_bytes(kv) * rows;
}

std::uint64_t longest_context(const KvFacts& kv, std::uint64_t n_bytes) {
  const auto budget = static_cast<double>(n_bytes);
  const double within = token_bytes(kv);
  const double beyond = token_bytes_beyond_window(kv);
  const double window = n_windowed_layers(*kv.config) == 0 ? 0 : kv.config->window;
  double n_tokens = budget / within;
  if (n_tokens > window && window > 0) {
    if (beyond == 0) return std::numeric_limits<std::uint64_t>::max();
    n_tokens = window + (budget - cache_bytes(kv, kv.config->window)) / beyond;
  }
  return static_cast<std::uint64_t>(n_tokens / kBlockTokens) * kBlockTokens;
}

double bits_per_element(const KvFacts& kv) {
  return layer_token_bytes(kv) * 8 / (2.0 * kv.n_kv_heads * kv.config->head_dim);
}

}  // namespace larder
