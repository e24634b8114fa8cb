// How many bytes a model's KV cache takes: the arithmetic alone, nothing is allocated.
#pragma once

#include <cstdint>
#include <vector>

#include "codec/kv_codec.h"
#include "model/config.h"

namespace larder {

/// Facts of which the cache's size is made; K and V may be stored differently.
struct KvFacts {
  const ModelConfig* config;
  const KvCodec* k;
  const KvCodec* v;
  std::uint32_t n_kv_heads;  // config->n_kv_heads, or what another sharing of heads would have
  /// False: as if every layer kept keys and values of its own for each KV head, also where the
  /// model keeps latent rows or shares them among layers.
  bool as_stored = true;
};

/// Formats that can store the rows of the model, in the order of the registry.
std::vector<const KvCodec*> storable_formats(const ModelConfig& config);

/// Bytes of one token in all layers that store any: 2 * layers * n_kv_heads * head_dim elements, or
/// layers * (kv_rank + rope_dim) with latent attention, metadata of the format included. What a
/// sequence grows by while it is shorter than every sliding window.
double token_bytes(const KvFacts& kv);
/// The same without the sliding-window layers: what a sequence longer than the window grows by.
double token_bytes_beyond_window(const KvFacts& kv);
/// Bytes of `n_tokens` tokens: a sum over layers, each with min(n_tokens, its window) rows.
double cache_bytes(const KvFacts& kv, std::uint64_t n_tokens);
/// Most tokens (whole blocks of 32) whose cache fits `n_bytes`; 0 when none do, UINT64_MAX when
/// every layer has a window and they all fit.
std::uint64_t longest_context(const KvFacts& kv, std::uint64_t n_bytes);
/// Stored bits per element of K and V together, or of the row that stands for both.
double bits_per_element(const KvFacts& kv);
/// Layers whose attention has a window; those that store rows may be fewer.
std::uint32_t n_windowed_layers(const ModelConfig& config);
/// Layers that grow beyond the window.
std::uint32_t n_growing_layers(const KvFacts& kv);
/// Layers that store rows.
std::uint32_t n_storing_layers(const KvFacts& kv);

}  // namespace larder
