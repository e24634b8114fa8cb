// The patterns of the families, spelled as their tokenizer.json files spell them.
#include "model/text/pretokenizer.h"

namespace larder {
namespace {

constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kDigits = R"(\p{N}+)";
constexpr std::string_view kPunctuation = R"([\p{P}\$\+<=>\^~\|]+)";
constexpr std::string_view kThreeDigits = "[0-9][0-9][0-9]";
constexpr std::string_view kLineEnd = "[\r\n]";
constexpr std::string_view kCasedWord =  // the letters that have case
    "\\s?["
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"
    "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"
    "\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"
    "\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59"
    "\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
    "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
    "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee"
    "\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    "\U000118a0-\U000118df\U0001e900-\U0001e943"
    "]+";
constexpr std::string_view kMarks =
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+";
constexpr std::string_view kTrailingSpace = R"(\s+$)";
constexpr std::string_view kEastAsian = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+";

/// Of rules that agree in all but the name the first one is the name that we write.
const std::vector<PreTokenizerRule>& rules() {
  static const std::vector<PreTokenizerRule> all = {
      {"gpt-2", {kGpt2}},
      {"olmo", {kGpt2}, false, true},  // GPT-NeoX's
      {"llama-bpe", {kLlama3}, true},
      {"dbrx", {kLlama3}},
      {"qwen2", {kQwen2}, false, true},
      {"stablelm2", {kQwen2}},
      {"smollm", {kDigit, kGpt2}},
      {"tekken", {kTekken}, true},
      {"gpt-4o", {kGpt4o}},
      {"deepseek-llm", {kLineEnd, kCasedWord, kMarks, kTrailingSpace, kEastAsian, kDigit}},
      {"default", {kPunctuation, kGpt2, kDigits, kThreeDigits}},
  };
  return all;
}

struct Alias {
  std::string_view name, meaning;
};
constexpr Alias kAliases[] = {
    {"", "default"},          {"phi-2", "gpt-2"},      {"mpt", "gpt-2"},
    {"gpt-neox", "olmo"},     {"llama3", "llama-bpe"}, {"llama-v3", "llama-bpe"},
    {"falcon3", "llama-bpe"}, {"smaug-bpe", "dbrx"},   {"deepseek-r1-qwen", "qwen2"},
    {"megrez", "qwen2"},      {"starcoder", "smollm"}, {"refact", "smollm"},
    {"command-r", "smollm"},  {"codeshell", "smollm"},
};

}  // namespace

const PreTokenizerRule* find_pre_tokenizer(std::string_view name) {
  for (const Alias& alias : kAliases) {
    if (alias.name == name) name = alias.meaning;
  }
  for (const PreTokenizerRule& rule : rules()) {
    if (rule.name == name) return &rule;
  }
  return nullptr;
}

const PreTokenizerRule* find_pre_tokenizer(std::span<const std::string> patterns,
                                           bool ignore_merges, bool nfc) {
  const PreTokenizerRule* nearest = nullptr;
  for (const PreTokenizerRule& rule : rules()) {
    if (!std::equal(patterns.begin(), patterns.end(), rule.patterns.begin(), rule.patterns.end())) {
      continue;
    }
    if (rule.ignore_merges == ignore_merges && rule.nfc == nfc) return &rule;
    // A rule's switches can be added to by TokenizerData, never taken away.
    if (!(rule.ignore_merges && !ignore_merges) && !(rule.nfc && !nfc)) nearest = &rule;
  }
  return nearest;
}

std::string_view byte_level_pattern() noexcept { return kGpt2; }

std::string_view digits_pattern(bool individual) noexcept { return individual ? kDigit : kDigits; }

}  // namespace larder
