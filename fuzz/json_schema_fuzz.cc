// Schemas: nothing crashes or grows without bound, and what compiles can be written to the end of a
// short walk.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "grammar/grammar.h"
#include "grammar/json_schema.h"

namespace {

std::shared_ptr<const larder::TokenBytes> vocabulary() {
  std::vector<std::string> pieces = {""};
  for (int byte = 1; byte < 256; ++byte) pieces.emplace_back(1, static_cast<char>(byte));
  for (const char* word : {"\"}", "\",\"", "\": ", "},{", "true", "]]"}) pieces.emplace_back(word);
  return std::make_shared<const larder::TokenBytes>(pieces, std::vector<larder::TokenId>{0});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto automaton =
      larder::compile_json_schema({reinterpret_cast<const char*>(data), size}, {"<", ">"});
  if (!automaton) {
    LARDER_CHECK(!automaton.error().message.empty());
    return 0;
  }
  const auto grammar = std::make_shared<const larder::Grammar>(std::move(*automaton), vocabulary());
  larder::GrammarMatcher matcher(grammar);
  std::uint32_t random = static_cast<std::uint32_t>(size);
  for (int i = 0; i < 16 && !matcher.is_over(); ++i) {
    const larder::TokenMask& open = matcher.next_tokens(true);
    if (open.empty()) break;  // alternatives beyond those that are followed
    random = random * 1664525U + 1013904223U;
    auto token = static_cast<larder::TokenId>(random % grammar->tokens().n_vocab());
    while (!open.has(token)) {
      token = (token + 1) % static_cast<larder::TokenId>(grammar->tokens().n_vocab());
    }
    if (token == 0) break;
    matcher.accept(token);
  }
  return 0;
}
