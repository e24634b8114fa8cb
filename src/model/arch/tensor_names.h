// Hugging Face's tensor names and GGUF's, for the layout that all families share.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace larder {

/// Where the four norms of a layer go: Llama's post_attention_layernorm stands before the
/// feed-forward part, Gemma 2's and 3's stands after attention.
enum class NormNames : std::uint8_t { pre_only, pre_and_post };

/// "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight". Empty: not a name of the
/// shared layout.
std::optional<std::string> canonical_tensor_name(std::string_view hf_name, NormNames norms);

/// The place of a tensor of a layer, "model.layers.3.PART.weight".
struct LayerTensor {
  std::string_view layer;  // "3"
  std::string_view part;   // "self_attn.q_proj"
  std::string_view kind;   // ".weight" or ".bias"
};
/// Empty: not a name of that form.
std::optional<LayerTensor> split_layer_name(std::string_view hf_name);

/// The inverse, for messages: the name that `to_canonical` (of an architecture) maps to
/// `canonical_name`. Empty: there is none.
std::string hf_tensor_name(std::string_view canonical_name,
                           std::optional<std::string> (*to_canonical)(std::string_view));

}  // namespace larder
