#include "model/io/hf_tokenizer.h"

#include <array>
#include <filesystem>
#include <optional>

#include "base/fail.h"
#include "model/io/hf_tokenizer_fields.h"
#include "model/io/mapped_file.h"

namespace larder {
namespace {

using hf::member;
using nlohmann::json;

std::string_view as_text(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

/// A null value when there is no such file.
Result<json> read_optional_json(const std::string& path) {
  if (!exists(path)) return json();
  LARDER_ASSIGN(const MappedFile file, MappedFile::open(path));
  return hf::parse_json(as_text(file), path);
}

Result<TokenizerData> read_vocabulary(const std::string& directory) {
  const std::string json_path = directory + "/tokenizer.json";
  const std::string model_path = directory + "/tokenizer.model";
  if (exists(json_path)) {
    LARDER_ASSIGN(const MappedFile file, MappedFile::open(json_path));
    return parse_tokenizer_json(as_text(file), json_path);
  }
  if (!exists(model_path)) {
    return fail(Errc::not_found, "{}: neither tokenizer.json nor tokenizer.model", directory);
  }
  LARDER_ASSIGN(const MappedFile file, MappedFile::open(model_path));
  LARDER_ASSIGN(TokenizerData data, parse_sentencepiece_model(file.bytes(), model_path));
  data.add_bos = data.bos >= 0;  // what the Llama tokenizer class does unless told otherwise
  return data;
}

/// Tokens that a directory with tokenizer.model adds to it: id and content each.
Result<void> add_token(TokenizerData& data, TokenId id, const std::string& text, bool special,
                       const std::string& origin) {
  if (text.empty()) return fail(Errc::corrupt, "{}: token {} has no content", origin, id);
  const TokenType type = special ? TokenType::control : TokenType::user_defined;
  LARDER_TRY(hf::place_token(data, id, text, type, origin));
  std::erase_if(data.added, [&](const AddedToken& token) { return token.id == id; });
  data.added.push_back({.id = id, .text = text});
  return {};
}

Result<void> read_added_tokens(TokenizerData& data, const std::string& directory,
                               const json& config) {
  const std::string config_path = directory + "/tokenizer_config.json";
  const std::string added_path = directory + "/added_tokens.json";
  LARDER_ASSIGN(const json plain, read_optional_json(added_path));
  if (plain.is_object()) {
    for (auto it = plain.begin(); it != plain.end(); ++it) {
      LARDER_ASSIGN(const TokenId id, hf::token_id(it.value(), it.key(), added_path));
      LARDER_TRY(add_token(data, id, it.key(), true, added_path));
    }
  }
  const json* described = member(config, "added_tokens_decoder");
  if (described == nullptr || !described->is_object()) return {};
  for (auto it = described->begin(); it != described->end(); ++it) {  // "32000": {"content": ...}
    const json number = json::parse(it.key(), nullptr, false);
    LARDER_ASSIGN(const TokenId id, hf::token_id(number, it.key(), config_path));
    if (id == data.unk) continue;
    LARDER_ASSIGN(const std::string text, hf::text_or(it.value(), "content", "", config_path));
    LARDER_ASSIGN(const bool special, hf::flag_or(it.value(), "special", false, config_path));
    LARDER_TRY(add_token(data, id, text, special, config_path));
    LARDER_ASSIGN(data.added.back().lstrip, hf::flag_or(it.value(), "lstrip", false, config_path));
    LARDER_ASSIGN(data.added.back().rstrip, hf::flag_or(it.value(), "rstrip", false, config_path));
  }
  return {};
}

/// "bos_token": "<s>" or {"content": "<s>", ...}; empty when absent.
Result<std::string> token_text(const json& object, const char* name, const std::string& origin) {
  const json* value = member(object, name);
  if (value != nullptr && value->is_object()) return hf::text_or(*value, "content", "", origin);
  return hf::text_or(object, name, "", origin);
}

Result<void> read_special_tokens(TokenizerData& data, const std::string& directory,
                                 const json& config) {
  const std::string map_path = directory + "/special_tokens_map.json";
  LARDER_ASSIGN(const json map, read_optional_json(map_path));
  struct Named {
    const char* name;
    TokenId& id;
  };
  const std::array<Named, 4> all = {{{"bos_token", data.bos},
                                     {"eos_token", data.eos},
                                     {"unk_token", data.unk},
                                     {"pad_token", data.pad}}};
  for (const Named& named : all) {
    LARDER_ASSIGN(std::string text,
                  token_text(config, named.name, directory + "/tokenizer_config.json"));
    if (text.empty()) {
      LARDER_ASSIGN(text, token_text(map, named.name, map_path));
    }
    const TokenId id = hf::find_token(data, text);
    if (id != kNoToken) named.id = id;
  }
  return {};
}

/// A string, or a list of {"name", "template"} of which "default" counts.
Result<std::string> chat_template_of(const json& config, const std::string& origin) {
  const json* value = member(config, "chat_template");
  if (value == nullptr || !value->is_array()) {
    return hf::text_or(config, "chat_template", "", origin);
  }
  std::string chosen;
  for (const json& entry : *value) {
    LARDER_ASSIGN(const std::string name, hf::text_or(entry, "name", "", origin));
    LARDER_ASSIGN(std::string source, hf::text_or(entry, "template", "", origin));
    if (name == "default" || chosen.empty()) chosen = std::move(source);
    if (name == "default") break;
  }
  return chosen;
}

}  // namespace

Result<TokenizerData> read_hf_tokenizer(const std::string& directory) {
  const std::string config_path = directory + "/tokenizer_config.json";
  const std::string template_path = directory + "/chat_template.jinja";
  LARDER_ASSIGN(TokenizerData data, read_vocabulary(directory));
  LARDER_ASSIGN(const json config, read_optional_json(config_path));
  if (!exists(directory + "/tokenizer.json")) {
    LARDER_TRY(read_added_tokens(data, directory, config));
  }
  LARDER_TRY(read_special_tokens(data, directory, config));
  LARDER_ASSIGN(const bool add_bos,
                hf::flag_or(config, "add_bos_token", data.add_bos, config_path));
  LARDER_ASSIGN(const bool add_eos,
                hf::flag_or(config, "add_eos_token", data.add_eos, config_path));
  data.add_bos = add_bos && data.bos != kNoToken;
  data.add_eos = add_eos && data.eos != kNoToken;
  LARDER_ASSIGN(data.chat_template, chat_template_of(config, config_path));
  if (exists(template_path)) {  // newer than the field, and preferred where both are there
    LARDER_ASSIGN(const MappedFile file, MappedFile::open(template_path));
    data.chat_template = as_text(file);
  }
  return data;
}

}  // namespace larder
