// The K and V parts of a model's blocks, and which formats can store them.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/kv_layout.h"
#include "model/config.h"

namespace larder {

/// Keys and values of one KV head; with latent attention the rotated key and the latent.
KvShape kv_shape(const ModelConfig& config, std::uint32_t block_tokens) noexcept;

/// Why a format cannot store the K or the V parts; empty when it can.
std::string refusal_of_k(const KvCodec& codec, const KvShape& shape);
std::string refusal_of_v(const KvCodec& codec, const KvShape& shape);

}  // namespace larder
