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
