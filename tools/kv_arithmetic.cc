#include "kv_arithmetic.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/kv_shape.h"

namespace larder {
namespace {

constexpr std::uint32_t kBlockTokens = 32;

bool stores_latent(const KvFacts& kv) { return kv.as_stored && kv.config->has_latent(); }

/// Elements of one token and layer.
double layer_elements(const KvFacts& kv) {
  const ModelConfig& c = *kv.config;
  if (stores_latent(kv)) return c.latent.row_dim();
  return static_cast<double>(kv.n_kv_heads) * (c.head_dim + c.value_dim());
}

/// Bytes of one token and layer.
double layer_token_bytes(const KvFacts& kv) {
  const ModelConfig& c = *kv.config;
  if (stores_latent(kv)) {
    const KvShape shape = kv_shape(c, kBlockTokens);
    return static_cast<double>(kv.k->k_bytes(shape.k) + kv.v->v_bytes(shape.v)) / kBlockTokens;
  }
  const auto block_bytes = static_cast<double>(kv.k->k_bytes({kBlockTokens, c.head_dim}) +
                                               kv.v->v_bytes({kBlockTokens, c.value_dim()}));
  return block_bytes / kBlockTokens * kv.n_kv_heads;
}

}  // namespace

// As plan_kv decides, for blocks of the default size.
std::vector<const KvCodec*> storable_formats(const ModelConfig& config) {
  std::vector<const KvCodec*> formats;
  const KvShape shape = kv_shape(config, kBlockTokens);
  for (const KvCodec* codec : kv_codecs()) {
    if (refusal_of_k(*codec, shape).empty() && refusal_of_v(*codec, shape).empty()) {
      formats.push_back(codec);
    }
  }
  return formats;
}

std::uint32_t n_storing_layers(const KvFacts& kv) {
  return kv.as_stored ? kv.config->n_owners() : kv.config->n_layers;
}

std::uint32_t n_growing_layers(const KvFacts& kv) {
  const ModelConfig& c = *kv.config;
  std::uint32_t n = 0;
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    if (kv.as_stored && !c.owns_kv(layer)) continue;
    if ((kv.as_stored ? c.cache_window(layer) : c.layer_window(layer)) == 0) ++n;
  }
  return n;
}

std::uint32_t n_windowed_layers(const ModelConfig& config) {
  std::uint32_t n = 0;
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    if (config.layer_window(layer) != 0) ++n;
  }
  return n;
}

double token_bytes(const KvFacts& kv) { return layer_token_bytes(kv) * n_storing_layers(kv); }

double token_bytes_beyond_window(const KvFacts& kv) {
  return layer_token_bytes(kv) * n_growing_layers(kv);
}

double cache_bytes(const KvFacts& kv, std::uint64_t n_tokens) {
  const std::uint32_t n_growing = n_growing_layers(kv);
  const auto all = static_cast<double>(n_tokens);
  const double kept = std::min(all, static_cast<double>(kv.config->window));
  const double rows = all * n_growing + kept * (n_storing_layers(kv) - n_growing);
  return layer_token_bytes(kv) * rows;
}

std::uint64_t longest_context(const KvFacts& kv, std::uint64_t n_bytes) {
  const auto budget = static_cast<double>(n_bytes);
  const double within = token_bytes(kv);
  const double beyond = token_bytes_beyond_window(kv);
  const double window = n_growing_layers(kv) == n_storing_layers(kv) ? 0 : kv.config->window;
  double n_tokens = budget / within;
  if (n_tokens > window && window > 0) {
    if (beyond == 0) return std::numeric_limits<std::uint64_t>::max();
    n_tokens = window + (budget - cache_bytes(kv, kv.config->window)) / beyond;
  }
  return static_cast<std::uint64_t>(n_tokens / kBlockTokens) * kBlockTokens;
}

double bits_per_element(const KvFacts& kv) {
  return layer_token_bytes(kv) * 8 / layer_elements(kv);
}

}  // namespace larder
