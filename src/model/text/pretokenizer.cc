#include "model/text/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/fail.h"

namespace larder {
namespace {

struct CodeDeleter {
  void operator()(pcre2_code* code) const noexcept { pcre2_code_free(code); }
};
struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const noexcept { pcre2_match_data_free(data); }
};
using Code = std::unique_ptr<pcre2_code, CodeDeleter>;
using MatchData = std::unique_ptr<pcre2_match_data, MatchDataDeleter>;

/// PCRE2's own \s also takes U+180E, which stopped being white space in Unicode 6.3; spelled out it
/// is the property White_Space, as in the engine these patterns were written for.
std::string spell_out_white_space(std::string_view pattern) {
  constexpr std::string_view kMembers = R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A})"
                                        R"(\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
  std::string spelled;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const std::string_view escape = pattern.substr(i, 2);
    if (escape == R"(\s)" && in_class) {
      spelled += kMembers;
    } else if (escape == R"(\s)" || escape == R"(\S)") {
      spelled += fmt::format("[{}{}]", escape[1] == 'S' ? "^" : "", kMembers);
    } else if (pattern[i] == '\\') {
      spelled += escape;
    } else {
      if (pattern[i] == '[') in_class = true;
      if (pattern[i] == ']') in_class = false;
      spelled += pattern[i];
      continue;
    }
    ++i;  // the escape's second character
  }
  return spelled;
}

Result<Code> compile(std::string_view pattern) {
  const std::string spelled = spell_out_white_space(pattern);
  int error = 0;
  PCRE2_SIZE at = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(spelled.data()), spelled.size(),
                          PCRE2_UTF | PCRE2_NO_UTF_CHECK, &error, &at, nullptr));
  if (!code) {
    return fail(Errc::unsupported,
                "tokenizer: pattern '{}' does not compile at {} (PCRE2 error {})", pattern, at,
                error);
  }
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // without JIT the interpreter takes its place
  return code;
}

void split_piece(const pcre2_code* code, pcre2_match_data* match, std::string_view text,
                 std::vector<std::string_view>& words) {
  std::size_t done = 0;  // everything before is in words
  std::size_t from = 0;
  while (from < text.size()) {
    const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                  from, PCRE2_NO_UTF_CHECK, match, nullptr);
    // An error (a limit of the engine) is treated like "no further match": the rest stays one word.
    if (found < 0) break;
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match);
    if (ends[1] <= from) break;  // an empty match; none of our patterns has one
    if (ends[0] > done) words.push_back(text.substr(done, ends[0] - done));
    words.push_back(text.substr(ends[0], ends[1] - ends[0]));
    done = from = ends[1];
  }
  if (done < text.size()) words.push_back(text.substr(done));
}

}  // namespace

struct PreTokenizer::Impl {
  std::vector<Code> stages;
};

PreTokenizer::PreTokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

Result<PreTokenizer> PreTokenizer::create(const PreTokenizerRule& rule) {
  auto impl = std::make_unique<Impl>();
  for (const std::string_view pattern : rule.patterns) {
    LARDER_ASSIGN(Code code, compile(pattern));
    impl->stages.push_back(std::move(code));
  }
  return PreTokenizer(std::move(impl));
}

void PreTokenizer::split(std::string_view text, std::vector<std::string_view>& words) const {
  words.clear();
  if (text.empty()) return;
  words.push_back(text);
  std::vector<std::string_view> pieces;
  for (const Code& stage : impl_->stages) {
    const MatchData match(pcre2_match_data_create_from_pattern(stage.get(), nullptr));
    if (!match) return;
    pieces.swap(words);
    words.clear();
    for (const std::string_view piece : pieces) {
      split_piece(stage.get(), match.get(), piece, words);
    }
  }
}

}  // namespace larder
