// tokenizer.json: BPE models, byte-level or with byte fallback, and the rules around them.
#include <algorithm>
#include <optional>
#include <vector>

#include "base/fail.h"
#include "model/io/hf_tokenizer.h"
#include "model/io/hf_tokenizer_fields.h"
#include "model/text/pretokenizer.h"
#include "model/text/unicode.h"

namespace larder {
namespace {

using hf::flag_or;
using hf::member;
using hf::text_or;
using nlohmann::json;

/// One file being read: steps of the pipeline leave their facts here.
struct Pipeline {
  const std::string& origin;
  TokenizerData data;
  bool prepends = false;         // normaliser: U+2581 before each segment
  bool replaces_spaces = false;  // normaliser or Metaspace: " " becomes U+2581
  bool byte_level = false;
  bool metaspace = false;
  std::vector<std::string> patterns;
};

/// Calls `fn` for a step or for each step of a Sequence, in order.
template <class Fn>
Result<void> for_each_step(const json* step, const char* list, const std::string& origin, Fn&& fn) {
  if (step == nullptr) return {};
  LARDER_ASSIGN(const std::string type, text_or(*step, "type", "", origin));
  if (type != "Sequence") return fn(*step, type);
  const json* steps = member(*step, list);
  if (steps == nullptr || !steps->is_array()) {
    return fail(Errc::corrupt, "{}: a Sequence without '{}'", origin, list);
  }
  for (const json& inner : *steps) LARDER_TRY(for_each_step(&inner, list, origin, fn));
  return {};
}

Result<void> read_normalizer_step(Pipeline& p, const json& step, const std::string& type) {
  if (type == "NFC") {
    p.data.nfc = true;
    return {};
  }
  if (type == "Prepend") {
    LARDER_ASSIGN(const std::string what, text_or(step, "prepend", "", p.origin));
    p.prepends = what == kSpaceSymbol;
    if (p.prepends && !p.replaces_spaces) return {};
  }
  if (type == "Replace") {
    const json* pattern = member(step, "pattern");
    LARDER_ASSIGN(const std::string from,
                  text_or(pattern == nullptr ? step : *pattern, "String", "", p.origin));
    LARDER_ASSIGN(const std::string to, text_or(step, "content", "", p.origin));
    if (from == " " && to == kSpaceSymbol) {
      p.replaces_spaces = true;
      return {};
    }
  }
  return fail(Errc::unsupported, "{}: the normaliser {} is not supported", p.origin,
              step.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 200));
}

Result<void> read_split(Pipeline& p, const json& step) {
  const json* pattern = member(step, "pattern");
  LARDER_ASSIGN(const std::string behavior, text_or(step, "behavior", "", p.origin));
  LARDER_ASSIGN(const bool invert, flag_or(step, "invert", false, p.origin));
  LARDER_ASSIGN(const std::string literal,
                text_or(pattern == nullptr ? step : *pattern, "String", "", p.origin));
  if (literal == " " && p.replaces_spaces) return {};  // Gemma: no space is left to split at
  LARDER_ASSIGN(std::string regex,
                text_or(pattern == nullptr ? step : *pattern, "Regex", "", p.origin));
  // "Removed" and inverted drops what does not match; our patterns match everything.
  const bool keeps_all = (behavior == "Isolated" && !invert) || (behavior == "Removed" && invert);
  if (regex.empty() || !keeps_all) {
    return fail(Errc::unsupported, "{}: the pre-tokenizer {} is not supported", p.origin,
                step.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 400));
  }
  p.patterns.push_back(std::move(regex));
  return {};
}

Result<void> read_metaspace(Pipeline& p, const json& step) {
  LARDER_ASSIGN(const std::string replacement,
                text_or(step, "replacement", std::string(kSpaceSymbol), p.origin));
  LARDER_ASSIGN(const bool old_prefix, flag_or(step, "add_prefix_space", true, p.origin));
  LARDER_ASSIGN(const std::string scheme,
                text_or(step, "prepend_scheme", old_prefix ? "always" : "never", p.origin));
  LARDER_ASSIGN(p.data.split_at_spaces, flag_or(step, "split", true, p.origin));
  const bool known = scheme == "always" || scheme == "first" || scheme == "never";
  if (replacement != kSpaceSymbol || !known) {
    return fail(Errc::unsupported, "{}: Metaspace with replacement '{}' and prepend_scheme '{}'",
                p.origin, replacement.substr(0, 32), scheme.substr(0, 32));
  }
  p.metaspace = p.replaces_spaces = true;
  p.data.add_space_prefix = scheme != "never";
  p.data.prefix_first_only = scheme == "first";
  p.data.prefix_unless_space = true;
  return {};
}

Result<void> read_pre_tokenizer_step(Pipeline& p, const json& step, const std::string& type) {
  if (p.byte_level || p.metaspace) {
    return fail(Errc::unsupported, "{}: the pre-tokenizer {} after ByteLevel or Metaspace",
                p.origin, type.substr(0, 100));
  }
  if (type == "Split") return read_split(p, step);
  if (type == "Metaspace") return read_metaspace(p, step);
  if (type == "Digits") {
    LARDER_ASSIGN(const bool individual, flag_or(step, "individual_digits", false, p.origin));
    p.patterns.emplace_back(digits_pattern(individual));
    return {};
  }
  if (type == "ByteLevel") {
    LARDER_ASSIGN(const bool use_regex, flag_or(step, "use_regex", true, p.origin));
    LARDER_ASSIGN(p.data.byte_space_prefix, flag_or(step, "add_prefix_space", true, p.origin));
    if (p.data.byte_space_prefix && !p.patterns.empty()) {
      return fail(Errc::unsupported, "{}: ByteLevel with add_prefix_space after other steps",
                  p.origin);
    }
    if (use_regex) p.patterns.emplace_back(byte_level_pattern());
    p.byte_level = true;
    return {};
  }
  return fail(Errc::unsupported, "{}: the pre-tokenizer '{}' is not supported", p.origin,
              type.substr(0, 100));
}

/// Joins the facts into a kind, or says why there is none.
Result<void> settle_kind(Pipeline& p) {
  TokenizerData& data = p.data;
  if (p.byte_level && !p.replaces_spaces && !p.prepends) {
    data.kind = TokenizerKind::byte_bpe;
    data.add_space_prefix = false;
    const PreTokenizerRule* rule = find_pre_tokenizer(p.patterns, data.ignore_merges, data.nfc);
    if (rule == nullptr) {
      std::string shown;
      for (const std::string& pattern : p.patterns) shown += " '" + pattern.substr(0, 400) + "'";
      return fail(Errc::unsupported, "{}: the pre-tokenizer pattern{} is not known", p.origin,
                  shown.empty() ? " (none)" : shown);
    }
    data.pre = rule->name;
    return {};
  }
  if (p.byte_level || !p.replaces_spaces || !p.patterns.empty() || data.nfc || data.ignore_merges ||
      (p.metaspace && p.prepends)) {
    return fail(Errc::unsupported,
                "{}: neither byte-level BPE nor SentencePiece's: its combination of normaliser and "
                "pre-tokenizer is not supported",
                p.origin);
  }
  data.kind = TokenizerKind::sentencepiece;
  if (!p.metaspace) data.add_space_prefix = p.prepends;
  return {};
}

Result<void> read_vocabulary(Pipeline& p, const json& model) {
  const json* vocab = member(model, "vocab");
  if (vocab == nullptr || !vocab->is_object() || vocab->empty()) {
    return fail(Errc::corrupt, "{}: 'model.vocab' is not an object with tokens", p.origin);
  }
  std::vector<const std::string*> by_id(vocab->size());
  std::vector<std::pair<TokenId, const std::string*>> beyond;  // vocabularies with holes
  for (auto it = vocab->begin(); it != vocab->end(); ++it) {
    LARDER_ASSIGN(const TokenId id, hf::token_id(it.value(), it.key(), p.origin));
    if (static_cast<std::size_t>(id) < by_id.size()) {
      by_id[static_cast<std::size_t>(id)] = &it.key();
    } else {
      beyond.emplace_back(id, &it.key());
    }
  }
  p.data.tokens.reserve(by_id.size());
  p.data.types.reserve(by_id.size());
  for (std::size_t id = 0; id < by_id.size(); ++id) {
    if (by_id[id] == nullptr) continue;
    LARDER_TRY(
        hf::place_token(p.data, static_cast<TokenId>(id), *by_id[id], TokenType::normal, p.origin));
  }
  std::sort(beyond.begin(), beyond.end());
  for (const auto& [id, text] : beyond) {
    LARDER_TRY(hf::place_token(p.data, id, *text, TokenType::normal, p.origin));
  }
  return {};
}

Result<void> read_merges(Pipeline& p, const json& model) {
  const json* merges = member(model, "merges");
  if (merges == nullptr || !merges->is_array()) {
    return fail(Errc::corrupt, "{}: 'model.merges' is not a list", p.origin);
  }
  p.data.merges.reserve(merges->size());
  for (const json& merge : *merges) {  // "a b" in older files, ["a", "b"] in newer ones
    if (merge.is_string()) {
      p.data.merges.push_back(merge.get<std::string>());
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      p.data.merges.push_back(merge[0].get_ref<const std::string&>() + ' ' +
                              merge[1].get_ref<const std::string&>());
    } else {
      return fail(Errc::corrupt, "{}: merge {} is not a pair", p.origin, p.data.merges.size());
    }
  }
  return {};
}

Result<void> read_model(Pipeline& p, const json& model) {
  LARDER_ASSIGN(const std::string type, text_or(model, "type", "BPE", p.origin));
  if (type != "BPE") {
    return fail(Errc::unsupported, "{}: tokenizer model '{}'; only BPE is supported", p.origin,
                type.substr(0, 100));
  }
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    LARDER_ASSIGN(const std::string affix, text_or(model, name, "", p.origin));
    if (!affix.empty()) {
      return fail(Errc::unsupported, "{}: 'model.{}' is '{}'", p.origin, name, affix.substr(0, 32));
    }
  }
  LARDER_ASSIGN(p.data.byte_fallback, flag_or(model, "byte_fallback", false, p.origin));
  LARDER_ASSIGN(p.data.fuse_unk, flag_or(model, "fuse_unk", false, p.origin));
  LARDER_ASSIGN(p.data.ignore_merges, flag_or(model, "ignore_merges", false, p.origin));
  LARDER_TRY(read_vocabulary(p, model));
  LARDER_TRY(read_merges(p, model));
  LARDER_ASSIGN(const std::string unknown, text_or(model, "unk_token", "", p.origin));
  p.data.unk = hf::find_token(p.data, unknown);
  return {};
}

/// Byte fallback finds its pieces by name.
void mark_byte_pieces(TokenizerData& data) {
  if (data.kind != TokenizerKind::sentencepiece || !data.byte_fallback) return;
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    const std::string& t = data.tokens[id];
    const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
    if (t.size() == 6 && t.starts_with("<0x") && is_hex(t[3]) && is_hex(t[4]) && t[5] == '>') {
      data.types[id] = TokenType::byte;
    }
  }
}

/// What the normaliser makes of an added token that is matched after it.
std::string normalized_text(const Pipeline& p, const std::string& text) {
  if (p.data.kind == TokenizerKind::byte_bpe) return p.data.nfc ? to_nfc(text) : text;
  std::string normal = p.prepends ? std::string(kSpaceSymbol) : std::string();
  for (const char c : text) {
    if (c == ' ') {
      normal += kSpaceSymbol;
    } else {
      normal += c;
    }
  }
  return normal;
}

Result<void> read_added_token(Pipeline& p, const json& entry) {
  LARDER_ASSIGN(const std::string text, text_or(entry, "content", "", p.origin));
  const json* id_value = member(entry, "id");
  if (id_value == nullptr || text.empty()) {
    return fail(Errc::corrupt, "{}: an entry of 'added_tokens' has no id or no content", p.origin);
  }
  LARDER_ASSIGN(const TokenId id, hf::token_id(*id_value, text, p.origin));
  LARDER_ASSIGN(const bool special, flag_or(entry, "special", false, p.origin));
  LARDER_ASSIGN(const bool single_word, flag_or(entry, "single_word", false, p.origin));
  if (single_word) {
    return fail(Errc::unsupported, "{}: added token '{}' is of the kind 'single_word'", p.origin,
                text.substr(0, 100));
  }
  AddedToken token{.id = id, .text = text};
  LARDER_ASSIGN(token.lstrip, flag_or(entry, "lstrip", false, p.origin));
  LARDER_ASSIGN(token.rstrip, flag_or(entry, "rstrip", false, p.origin));
  LARDER_ASSIGN(token.normalized, flag_or(entry, "normalized", !special, p.origin));
  token.normalized = token.normalized && !p.metaspace;  // Metaspace comes after the matching
  if (token.normalized) token.text = normalized_text(p, text);
  const TokenType type = id == p.data.unk ? TokenType::unknown
                         : special        ? TokenType::control
                                          : TokenType::user_defined;
  LARDER_TRY(hf::place_token(p.data, id, text, type, p.origin));
  p.data.added.push_back(std::move(token));
  return {};
}

/// BOS and EOS are what a template puts before and after the text.
Result<void> read_template(Pipeline& p, const json& step) {
  const json* parts = member(step, "single");
  if (parts == nullptr || !parts->is_array()) {
    return fail(Errc::corrupt, "{}: TemplateProcessing without 'single'", p.origin);
  }
  bool after_text = false;
  for (const json& part : *parts) {
    if (member(part, "Sequence") != nullptr) after_text = true;
    const json* special = member(part, "SpecialToken");
    if (special == nullptr) continue;
    LARDER_ASSIGN(const std::string text, text_or(*special, "id", "", p.origin));
    const TokenId id = hf::find_token(p.data, text);
    TokenId& slot = after_text ? p.data.eos : p.data.bos;
    if (id == kNoToken || slot != kNoToken) {
      return fail(Errc::unsupported, "{}: the post-processor adds '{}', {}", p.origin,
                  text.substr(0, 100),
                  id == kNoToken ? "which is no token" : "a second token on one side");
    }
    slot = id;
    (after_text ? p.data.add_eos : p.data.add_bos) = true;
  }
  return {};
}

}  // namespace

Result<TokenizerData> parse_tokenizer_json(std::string_view text, const std::string& origin) {
  LARDER_ASSIGN(const json root, hf::parse_json(text, origin));
  Pipeline p{.origin = origin, .data = {}, .patterns = {}};
  const json* model = member(root, "model");
  if (model == nullptr || !model->is_object()) {
    return fail(Errc::corrupt, "{}: 'model' is not an object", origin);
  }
  LARDER_TRY(read_model(p, *model));
  LARDER_TRY(for_each_step(member(root, "normalizer"), "normalizers", origin,
                           [&](const json& step, const std::string& type) {
                             return read_normalizer_step(p, step, type);
                           }));
  LARDER_TRY(for_each_step(member(root, "pre_tokenizer"), "pretokenizers", origin,
                           [&](const json& step, const std::string& type) {
                             return read_pre_tokenizer_step(p, step, type);
                           }));
  LARDER_TRY(settle_kind(p));
  mark_byte_pieces(p.data);
  if (const json* added = member(root, "added_tokens"); added != nullptr && added->is_array()) {
    for (const json& entry : *added) LARDER_TRY(read_added_token(p, entry));
  }
  LARDER_TRY(for_each_step(member(root, "post_processor"), "processors", origin,
                           [&](const json& step, const std::string& type) -> Result<void> {
                             if (type == "ByteLevel") return {};  // moves offsets only
                             if (type == "TemplateProcessing") return read_template(p, step);
                             return fail(Errc::unsupported,
                                         "{}: the post-processor '{}' is not supported", origin,
                                         type.substr(0, 100));
                           }));
  return std::move(p.data);
}

}  // namespace larder
