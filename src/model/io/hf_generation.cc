#include "model/io/hf_generation.h"

#include <filesystem>

#include "base/fail.h"
#include "model/arch/json_fields.h"
#include "model/io/hf_json.h"

namespace larder {
namespace {

constexpr std::size_t kMaxJsonBytes = 1U << 20;
constexpr std::size_t kMaxEndTokens = 1024;

Result<std::vector<TokenId>> read_end_tokens(const JsonFields& fields, std::uint32_t n_vocab) {
  std::vector<TokenId> ids;
  const auto* value = fields.find("eos_token_id");
  if (value == nullptr) return ids;
  const auto add = [&](const nlohmann::json& id) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= n_vocab) return false;
    ids.push_back(static_cast<TokenId>(id.get<std::uint32_t>()));
    return ids.size() <= kMaxEndTokens;
  };
  bool good = true;
  if (value->is_array()) {
    for (const auto& id : *value) good = good && add(id);
  } else {
    good = add(*value);
  }
  if (good) return ids;
  return fail(Errc::corrupt, "{}: field 'eos_token_id' must be token ids below {}, at most {}",
              fields.origin(), n_vocab, kMaxEndTokens);
}

Result<GenerationDefaults> read_defaults(const JsonFields& fields) {
  GenerationDefaults defaults;
  LARDER_ASSIGN(const auto samples, fields.bool_or("do_sample", true));
  if (!samples) return defaults;
  const auto read = [&](std::string_view key, std::optional<float>& out) -> Result<void> {
    if (!fields.has(key)) return {};
    LARDER_ASSIGN(out, fields.f32(key));
    return {};
  };
  LARDER_TRY(read("temperature", defaults.temperature));
  LARDER_TRY(read("top_p", defaults.top_p));
  LARDER_TRY(read("min_p", defaults.min_p));
  LARDER_TRY(read("repetition_penalty", defaults.repetition_penalty));
  if (fields.has("top_k")) {
    LARDER_ASSIGN(const auto top_k, fields.u32("top_k"));
    if (top_k <= 0x7fffffffU) defaults.top_k = static_cast<std::int32_t>(top_k);
  }
  return defaults;
}

}  // namespace

Result<HfGeneration> read_hf_generation(const std::string& directory, const JsonFields& config,
                                        std::uint32_t n_vocab) {
  HfGeneration generation;
  LARDER_ASSIGN(generation.end_tokens, read_end_tokens(config, n_vocab));
  const auto path = (std::filesystem::path(directory) / "generation_config.json").string();
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return generation;
  nlohmann::json root;
  LARDER_TRY(read_json_object(path, kMaxJsonBytes, root));
  const JsonFields fields(root, path);
  if (fields.has("eos_token_id")) {
    LARDER_ASSIGN(generation.end_tokens, read_end_tokens(fields, n_vocab));
  }
  LARDER_ASSIGN(generation.defaults, read_defaults(fields));
  return generation;
}

}  // namespace larder
