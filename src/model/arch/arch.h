// What a model family is: one small file each, describing how its files map to ModelConfig. The
// forward pass is one for all.
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

class GgufFile;
class GgufMetadata;
class GgufWriter;
class JsonFields;

/// Change of a weight between Hugging Face's convention and GGUF's, applied when converting.
enum class TensorChange : std::uint8_t {
  none,
  permute_q,  // rows of each head from halves to adjacent pairs (llama architecture)
  permute_k,
  add_one  // Gemma's norms store weight - 1
};

struct Arch {
  std::string_view name;                       // GGUF general.architecture
  std::span<const std::string_view> hf_names;  // config.json "architectures"
  /// Fields common to all families are already read; these add what is special.
  Result<void> (*from_gguf)(const GgufMetadata& metadata, ModelConfig& config);
  Result<void> (*from_hf)(const JsonFields& fields, ModelConfig& config);
  /// Writes the special keys (the common ones are written already).
  void (*to_gguf)(const ModelConfig& config, GgufWriter& writer);
  /// Hugging Face tensor name -> canonical name; empty: no weight of this architecture.
  std::optional<std::string> (*canonical_name)(std::string_view hf_name);
  TensorChange (*change)(std::string_view canonical_name);
};

/// All families; two may share a GGUF name (Mistral is "llama" there), the first one reads it.
std::span<const Arch* const> architectures() noexcept;
const Arch* find_arch(std::string_view gguf_name) noexcept;
const Arch* find_arch_hf(std::string_view hf_name) noexcept;

/// Reads a whole ModelConfig from metadata alone and validates it; refuses unknown architectures by
/// name, with the list of known ones. `config_from_gguf(file)` is what a model file needs.
Result<ModelConfig> config_from_gguf(const GgufMetadata& metadata);
/// The same with the rope factors that some files carry as tensors: rope_freqs.weight (Llama 3.1),
/// rope_factors_long.weight and rope_factors_short.weight (Phi-3).
Result<ModelConfig> config_from_gguf(const GgufFile& file);
/// config.json of a Hugging Face directory; `origin` names the file in messages. Validated.
Result<ModelConfig> config_from_hf(const nlohmann::json& config_json, const std::string& origin);
/// The keys of `config` under its architecture's name, general.architecture included. Scalings that
/// GGUF carries as tensors (llama3, longrope) are the converter's to add: see `rope_tensors`.
void config_to_gguf(const ModelConfig& config, GgufWriter& writer);

/// A small float tensor that carries rope scaling in a GGUF file.
struct RopeTensor {
  std::string name;
  std::vector<float> values;  // [n_rot / 2]
};
std::vector<RopeTensor> rope_tensors(const RopeConfig& rope);

}  // namespace larder
