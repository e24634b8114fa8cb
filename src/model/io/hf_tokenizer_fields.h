// Reading untrusted JSON without exceptions: parsing with limits, members of the expected type.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "larder/result.h"
#include "model/text/tokenizer_data.h"

namespace larder::hf {

inline constexpr std::size_t kMaxJsonBytes = std::size_t{1} << 27;  // real ones: up to 35 MB

/// Errors: corrupt (syntax, size, number of values, nesting).
Result<nlohmann::json> parse_json(std::string_view text, const std::string& origin);

/// Null when `object` is no object, or the member is absent or null.
const nlohmann::json* member(const nlohmann::json& object, const char* name);
/// `absent` when the member is not there; corrupt when it has another type.
Result<bool> flag_or(const nlohmann::json& object, const char* name, bool absent,
                     const std::string& origin);
Result<std::string> text_or(const nlohmann::json& object, const char* name, std::string absent,
                            const std::string& origin);
/// A token id; corrupt when it is no integer within the limits of a vocabulary.
Result<TokenId> token_id(const nlohmann::json& value, std::string_view field,
                         const std::string& origin);

/// Puts a token at its place; ids in between that nothing names become unused "[PAD<id>]".
/// Errors: corrupt, when the id lies absurdly far beyond what is there.
Result<void> place_token(TokenizerData& data, TokenId id, const std::string& text, TokenType type,
                         const std::string& origin);
TokenId find_token(const TokenizerData& data, std::string_view text);

}  // namespace larder::hf
