// Cross-layer attention (arXiv:2405.12981): Llama or Qwen 3 in which a layer reads the K and V of
// an earlier one. What the trainer writes (docs/training.md); GGUF under the same name.
#include <array>

#include "base/fail.h"
#include "model/arch/families.h"
#include "model/arch/json_fields.h"
#include "model/arch/qwen_windows.h"
#include "model/arch/tensor_names.h"
#include "model/arch/windows.h"
#include "model/io/gguf.h"

namespace larder {
namespace {

constexpr auto kHfNames = std::to_array<std::string_view>({"LarderClaForCausalLM", "larder_cla"});
constexpr std::string_view kOwnerKey = ".attention.kv_owner";
constexpr std::string_view kNormKey = ".attention.qk_norm";

Result<void> from_gguf(const GgufMetadata& metadata, ModelConfig& config) {
  LARDER_ASSIGN(config.qk_norm, metadata.bool_or(config.arch + std::string(kNormKey), false));
  LARDER_ASSIGN(const auto owners, metadata.ints(config.arch + std::string(kOwnerKey)));
  for (const std::int64_t owner : owners) {
    if (owner < 0 || owner >= std::int64_t{config.n_layers}) {
      return fail(Errc::corrupt, "{}: key '{}{}' names layer {} of {}", metadata.origin(),
                  config.arch, kOwnerKey, owner, config.n_layers);
    }
    config.kv_owner.push_back(static_cast<std::uint32_t>(owner));
  }
  if (owners.empty()) {
    return fail(Errc::not_found, "{}: key '{}{}' is missing", metadata.origin(), config.arch,
                kOwnerKey);
  }
  return windows_from_gguf(metadata, 0, 0, config);
}

Result<void> from_hf(const JsonFields& fields, ModelConfig& config) {
  LARDER_ASSIGN(config.qk_norm, fields.bool_or("qk_norm", false));
  LARDER_ASSIGN(config.kv_owner, fields.u32s("kv_owner"));
  for (const std::uint32_t owner : config.kv_owner) {
    if (owner >= config.n_layers) {
      return fail(Errc::corrupt, "{}: field 'kv_owner' names layer {} of {}", fields.origin(),
                  owner, config.n_layers);
    }
  }
  return qwen_windows_from_hf(fields, config);
}

void to_gguf(const ModelConfig& config, GgufWriter& writer) {
  writer.put(config.arch + std::string(kNormKey), GgufType::boolean, config.qk_norm);
  writer.put_array(config.arch + std::string(kOwnerKey), GgufType::u32,
                   std::vector<std::int64_t>(config.kv_owner.begin(), config.kv_owner.end()));
  windows_to_gguf(config, 0, writer);
}

std::optional<std::string> tensor_name(std::string_view hf_name) {
  return canonical_tensor_name(hf_name, NormNames::pre_only);
}

TensorChange tensor_change(std::string_view) { return TensorChange::none; }

}  // namespace

const Arch kLarderCla = {"larder_cla", kHfNames,    from_gguf,    from_hf,
                         to_gguf,      tensor_name, tensor_change};

}  // namespace larder
