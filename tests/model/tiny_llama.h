// The smallest Hugging Face directories that are whole models.
#pragma once

#include <string>
#include <string_view>

#include "safetensors_builder.h"
#include "scratch_dir.h"

namespace larder {

/// Two layers, width 16, 2 heads, 1 KV head of 8 channels, feed-forward 32, 40 tokens. `more` is
/// further fields.
inline std::string tiny_llama_config(std::string_view more = R"("tie_word_embeddings":true)",
                                     std::string_view architecture = "LlamaForCausalLM") {
  return R"({"architectures":[")" + std::string(architecture) +
         R"("],"hidden_size":16,"num_hidden_layers":2,"intermediate_size":32,
            "num_attention_heads":2,"num_key_value_heads":1,"vocab_size":40,
            "max_position_embeddings":64,)" +
         std::string(more) + "}";
}

/// Everything but the embedding and the output.
inline void add_tiny_llama_layers(SafetensorsBuilder& builder) {
  float first = 0;
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    const auto add = [&](const char* name, const std::vector<std::uint64_t>& shape) {
      builder.add_f32(layer + name, shape, first, 0.25F);
      first += 1;
    };
    add("input_layernorm.weight", {16});
    add("post_attention_layernorm.weight", {16});
    add("self_attn.q_proj.weight", {16, 16});
    add("self_attn.k_proj.weight", {8, 16});
    add("self_attn.v_proj.weight", {8, 16});
    add("self_attn.o_proj.weight", {16, 16});
    add("mlp.gate_proj.weight", {32, 16});
    add("mlp.up_proj.weight", {32, 16});
    add("mlp.down_proj.weight", {16, 32});
  }
  builder.add_f32("model.norm.weight", {16}, 1, 0);
}

/// config.json and model.safetensors of a tied model.
inline void write_tiny_llama(const ScratchDir& dir) {
  dir.write("config.json", tiny_llama_config());
  SafetensorsBuilder builder;
  add_tiny_llama_layers(builder);
  builder.add_f32("model.embed_tokens.weight", {40, 16}, 1, 0.5F);
  dir.write("model.safetensors", builder.bytes());
}

}  // namespace larder
