// Sizes of multi-head latent attention, as the two file kinds say them.
#pragma once

#include "larder/result.h"
#include "model/config.h"

namespace larder {

class GgufMetadata;
class GgufWriter;
class JsonFields;

/// Sets `latent`, `head_dim` and `n_kv_heads` (1). Reads both kinds of files that llama.cpp knows:
/// the newer ones call a head's own widths key_length_mla and value_length_mla, beside the widths
/// of the cached row; the older ones call them key_length and value_length.
/// REQUIRES: config.arch and n_heads are read.
Result<void> latent_from_gguf(const GgufMetadata& metadata, ModelConfig& config);
/// The newer kind.
void latent_to_gguf(const ModelConfig& config, GgufWriter& writer);

/// The same from config.json's kv_lora_rank, q_lora_rank, qk_nope_head_dim, ...
Result<void> latent_from_hf(const JsonFields& fields, ModelConfig& config);

}  // namespace larder
