// Random models that take milliseconds to write and to run.
#pragma once

#include "model/io/random_model.h"

namespace larder {

/// Two layers of grouped-query attention, 512 words.
inline ModelConfig small_dense_config() { return *random_model_config("tiny"); }

/// Latent attention and, in the second layer, five experts beside a shared one, 512 words.
inline ModelConfig small_experts_config() {
  ModelConfig config = *random_model_config("MLA-135M");
  config.n_layers = 2;
  config.n_embd = 64;
  config.n_ff = 96;
  config.n_heads = 2;
  config.n_vocab = 512;
  config.latent = {.kv_rank = 64, .q_rank = 0, .nope_dim = 32, .rope_dim = 32, .v_dim = 32};
  config.experts.n_experts = 5;
  config.experts.n_used = 2;
  config.experts.n_shared = 1;
  config.experts.n_ff = 96;
  config.experts.n_dense_layers = 1;
  config.experts.n_groups = config.experts.n_groups_used = 1;
  return config;
}

}  // namespace larder
