// larder tokenize: text to token ids and back, with the tokenizer of a model or vocabulary file.
#include <charconv>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/fail.h"
#include "commands.h"
#include "failure.h"
#include "model/io/model_source.h"
#include "model/text/tokenizer.h"
#include "text_input.h"

namespace larder {
namespace {

struct TokenizeFlags {
  std::string path;
  bool from_ids = false;
  bool no_bos = false;
  bool special = false;
};

constexpr std::size_t kMaxInputBytes = std::size_t{1} << 30;

/// Numbers separated by white space or commas.
Result<std::vector<TokenId>> parse_ids(std::string_view text, std::uint32_t n_vocab) {
  constexpr std::string_view kSeparators = " \t\r\n,";
  std::vector<TokenId> ids;
  for (std::size_t at = text.find_first_not_of(kSeparators); at != std::string_view::npos;
       at = text.find_first_not_of(kSeparators, at)) {
    const std::string_view word = text.substr(at, text.find_first_of(kSeparators, at) - at);
    TokenId id = kNoToken;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size() || id < 0 ||
        static_cast<std::uint32_t>(id) >= n_vocab) {
      return fail(Errc::invalid_argument, "standard input: '{}' is no token id from 0 to {}",
                  word.substr(0, 40), n_vocab - 1);
    }
    ids.push_back(id);
    at += word.size();
  }
  return ids;
}

Result<std::string> convert(const TokenizeFlags& flags, const std::string& input) {
  LARDER_ASSIGN(const auto source, open_model(flags.path, {.vocab_only = true}));
  auto created = Tokenizer::create(source->tokenizer());
  if (!created) {
    return fail(created.error().code, "{}: {}", flags.path, created.error().message);
  }
  const Tokenizer& tokenizer = **created;
  if (flags.from_ids) {
    LARDER_ASSIGN(const auto ids, parse_ids(input, tokenizer.n_vocab()));
    return tokenizer.decode(ids, flags.special);
  }
  std::string out;
  for (const TokenId id : tokenizer.encode(input, {.add_special = !flags.no_bos})) {
    if (!out.empty()) out += ' ';
    out += std::to_string(id);
  }
  return out += '\n';
}

int tokenize(const TokenizeFlags& flags) {
  const auto input = read_stdin(kMaxInputBytes);
  if (!input) return report_failure(input.error());
  const auto output = convert(flags, *input);
  if (!output) return report_failure(output.error());
  std::fwrite(output->data(), 1, output->size(), stdout);
  return kExitOk;
}

}  // namespace

void add_tokenize_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<TokenizeFlags>();  // owned by the callback below
  CLI::App* command = app.add_subcommand(
      "tokenize", "standard input to token ids separated by spaces, or back with --ids");
  command->add_option("-m,--model", flags->path, "GGUF file (a vocabulary is enough) or directory")
      ->required();
  command->add_flag(
      "--ids,--decode", flags->from_ids,
      "standard input holds ids (separated by spaces, commas or lines); print their text");
  command->add_flag("--no-bos", flags->no_bos, "no BOS or EOS around the ids");
  command->add_flag("--special", flags->special, "with --ids: print control tokens too");
  command->callback([flags, &exit_code] { exit_code = tokenize(*flags); });
}

}  // namespace larder
