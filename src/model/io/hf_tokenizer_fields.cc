#include "model/io/hf_tokenizer_fields.h"

#include <algorithm>

#include "base/fail.h"
#include "base/json_shape.h"

namespace larder::hf {
namespace {

constexpr std::size_t kMaxDepth = 64;
// A vocabulary of 2^18 tokens has 2^21; the outermost value counts too.
constexpr std::size_t kMaxValues = (std::size_t{1} << 22) + 1;
constexpr std::int64_t kMaxId = std::int64_t{1} << 22;
// Vocabularies are padded by tens or hundreds of ids.
constexpr std::size_t kMaxGap = std::size_t{1} << 12;

}  // namespace

Result<nlohmann::json> parse_json(std::string_view text, const std::string& origin) {
  if (text.size() > kMaxJsonBytes) {
    return fail(Errc::corrupt, "{}: {} bytes of JSON; at most {} are supported", origin,
                text.size(), kMaxJsonBytes);
  }
  const JsonShape size = measure_json(text);
  if (size.depth > kMaxDepth || size.n_values > kMaxValues) {
    return fail(Errc::corrupt, "{}: JSON of {} values nested {} deep; supported are {} and {}",
                origin, size.n_values, size.depth, kMaxValues, kMaxDepth);
  }
  nlohmann::json parsed = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
  if (parsed.is_discarded()) return fail(Errc::corrupt, "{}: not valid JSON", origin);
  return parsed;
}

const nlohmann::json* member(const nlohmann::json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

Result<bool> flag_or(const nlohmann::json& object, const char* name, bool absent,
                     const std::string& origin) {
  const nlohmann::json* value = member(object, name);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) {
    return fail(Errc::corrupt, "{}: '{}' is not true or false", origin, name);
  }
  return value->get<bool>();
}

Result<std::string> text_or(const nlohmann::json& object, const char* name, std::string absent,
                            const std::string& origin) {
  const nlohmann::json* value = member(object, name);
  if (value == nullptr) return absent;
  if (!value->is_string()) return fail(Errc::corrupt, "{}: '{}' is not a string", origin, name);
  return value->get<std::string>();
}

Result<TokenId> token_id(const nlohmann::json& value, std::string_view field,
                         const std::string& origin) {
  // Beyond int64 the JSON library holds an unsigned number, whose conversion would wrap.
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() ||
                     value.get<std::uint64_t>() < static_cast<std::uint64_t>(kMaxId));
  const std::int64_t id = fits ? value.get<std::int64_t>() : -1;
  if (id < 0 || id >= kMaxId) {
    return fail(Errc::corrupt, "{}: the id of '{}' is not an integer from 0 to {}", origin,
                field.substr(0, 100), kMaxId - 1);
  }
  return static_cast<TokenId>(id);
}

Result<void> place_token(TokenizerData& data, TokenId id, const std::string& text, TokenType type,
                         const std::string& origin) {
  const auto at = static_cast<std::size_t>(id);
  if (at >= data.tokens.size() + kMaxGap) {
    return fail(Errc::corrupt, "{}: token '{}' has id {}, far beyond the {} tokens there are",
                origin, text.substr(0, 100), id, data.tokens.size());
  }
  while (data.tokens.size() <= at) {
    data.tokens.push_back("[PAD" + std::to_string(data.tokens.size()) + "]");
    data.types.push_back(TokenType::unused);
    if (!data.scores.empty()) data.scores.push_back(0);
  }
  data.tokens[at] = text;
  data.types[at] = type;
  return {};
}

TokenId find_token(const TokenizerData& data, std::string_view text) {
  if (text.empty()) return kNoToken;
  const auto it = std::find(data.tokens.begin(), data.tokens.end(), text);
  return it == data.tokens.end() ? kNoToken : static_cast<TokenId>(it - data.tokens.begin());
}

}  // namespace larder::hf
