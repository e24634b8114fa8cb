// What a model family is: one small file each, describing how its files map to ModelConfig. The forward pass is one for all.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"
#include "model/config.h"

namespace larder {

class GgufMetadata;
class GgufWriter;

/// Change of a weight between Hugging Face's convention and GGUF's, applied when converting.
enum class TensorChange : std::uint8_t {
  none,
  permute_q,  // rows of each head from halves to adjacent pairs (llama architecture)
  permute_k,
  add_one     // Gemma's norms store weight - 1
};

struct Arch {
  std::string_view name;                          // GGUF general.architecture
  std::span<const std::string_view> hf_names;     // config.json "architectures"
  /// Fields common to all families are already read; these add what is special.
  Result<void> (*from_gguf)(const GgufMetadata& metadata, ModelConfig& config);
  Result<void> (*from_hf)(const nlohmann::json& config_json, ModelConfig& config);
  /// Writes the special keys (the common ones are written already).
  void (*to_gguf)(const ModelConfig& config, GgufWriter& writer);
  /// Hugging Face tensor name -> canonical name; empty: the tensor is not used.
  std::optional<std::string> (*canonical_name)(std::string_view hf_name);
  TensorChange (*change)(std::string_view canonical_name);
};

std::span<const Arch* const> architectures() noexcept;
const Arch* find_arch(std::string_view gguf_name) noexcept;
const Arch* find_arch_hf(std::string_view hf_name) noexcept;

/// Reads a whole ModelConfig; refuses unknown architectures by name, with the list of known ones.
Result<ModelConfig> config_from_gguf(const GgufMetadata& metadata);
Result<ModelConfig> config_from_hf(const nlohmann::json& config_json, const std::string& origin);
void config_to_gguf(const ModelConfig& config, GgufWriter& writer);

}  // namespace larder
