#include "model/io/hf_generation.h"

#include <algorithm>
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

/// Nobody reads the field: the tokenizer's files name the token. An id beyond the vocabulary tells
/// that the files do not belong together.
Result<void> check_begin_token(const JsonFields& fields, std::uint32_t n_vocab) {
  LARDER_ASSIGN(const auto id, fields.u32_or("bos_token_id", 0));
  if (id < n_vocab || !fields.has("bos_token_id")) return {};
  return fail(Errc::corrupt, "{}: field 'bos_token_id' is {}, the vocabulary has {} tokens",
              fields.origin(), id, n_vocab);
}

Result<GenerationDefaults> read_defaults(const JsonFields& fields) {
  GenerationDefaults defaults;
  LARDER_ASSIGN(const auto samples, fields.bool_or("do_sample", true));
  if (!samples) return defaults;
  const auto read = [&](std::string_view key, float highest,
                        std::optional<float>& out) -> Result<void> {
    if (!fields.has(key)) return {};
    LARDER_ASSIGN(const float value, fields.f32(key));
    if (value < 0 || value > highest) {
      return fail(Errc::corrupt, "{}: field '{}' is {}, expected 0 to {}", fields.origin(), key,
                  value, highest);
    }
    out = value;
    return {};
  };
  LARDER_TRY(read("temperature", 100, defaults.temperature));
  LARDER_TRY(read("top_p", 1, defaults.top_p));
  LARDER_TRY(read("min_p", 1, defaults.min_p));
  LARDER_TRY(read("repetition_penalty", 100, defaults.repetition_penalty));
  if (fields.has("top_k")) {
    LARDER_ASSIGN(const auto top_k, fields.u32("top_k"));
    constexpr std::uint32_t kMost = 1U << 30;  // more than any vocabulary: no limit
    defaults.top_k = static_cast<std::int32_t>(std::min(top_k, kMost));
  }
  return defaults;
}

}  // namespace

Result<HfGeneration> read_hf_generation(const std::string& directory, const JsonFields& config,
                                        std::uint32_t n_vocab) {
  HfGeneration generation;
  LARDER_TRY(check_begin_token(config, n_vocab));
  LARDER_ASSIGN(generation.end_tokens, read_end_tokens(config, n_vocab));
  const auto path = (std::filesystem::path(directory) / "generation_config.json").string();
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return generation;
  nlohmann::json root;
  LARDER_TRY(read_json_object(path, kMaxJsonBytes, root));
  const JsonFields fields(root, path);
  LARDER_TRY(check_begin_token(fields, n_vocab));
  if (fields.has("eos_token_id")) {
    LARDER_ASSIGN(generation.end_tokens, read_end_tokens(fields, n_vocab));
  }
  LARDER_ASSIGN(generation.defaults, read_defaults(fields));
  return generation;
}

}  // namespace larder
