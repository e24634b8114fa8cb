// Tokenizer files and text. The first byte chooses: a tokenizer.json, a SentencePiece model, a
// llama2.c tokenizer, or text for two small vocabularies. Whatever loads must encode and decode
// without harm, and streaming must give what decoding gives.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/check.h"
#include "model/io/hf_tokenizer.h"
#include "model/io/llama2c_tokenizer.h"
#include "model/text/tokenizer.h"
#include "model/text/unicode.h"

namespace larder {
namespace {

constexpr std::string_view kText =
    "Hello  \xE4\xB8\x96\xE7\x95\x8C, don't \xF0\x9F\x98\x80<s>\n\t 123 \xFF a";

void use(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool special : {false, true}) {
    const auto ids = tokenizer.encode(text, {.add_special = special, .parse_special = special});
    StreamDecoder decoder(tokenizer, true);
    std::string streamed;
    for (const TokenId id : ids) {
      LARDER_CHECK(id >= 0 && static_cast<std::uint32_t>(id) < tokenizer.n_vocab());
      streamed += decoder.push(id);
    }
    streamed += decoder.finish();
    LARDER_CHECK(is_valid_utf8(streamed));
    LARDER_CHECK(streamed == tokenizer.decode(ids, false));
  }
}

void use_file(Result<TokenizerData> data, std::string_view text) {
  if (!data) return;
  const auto tokenizer = Tokenizer::create(std::move(*data));
  if (!tokenizer) return;
  use(**tokenizer, kText);
  use(**tokenizer, text.substr(0, 2048));
}

TokenizerData small_byte_bpe() {
  TokenizerData data;
  data.kind = TokenizerKind::byte_bpe;
  data.pre = "qwen2";
  data.tokens = {"a",
                 "b",
                 "\xC4\xA0",
                 "ab",
                 "\xC4\xA0"
                 "ab",
                 "\xC3\xA2",
                 "<x>"};
  data.types.assign(data.tokens.size(), TokenType::normal);
  data.types.back() = TokenType::control;
  data.merges = {"a b", "\xC4\xA0 ab"};
  return data;
}

TokenizerData small_sentencepiece() {
  TokenizerData data;
  data.kind = TokenizerKind::sentencepiece;
  data.tokens = {"<unk>",
                 "a",
                 "b",
                 "\xE2\x96\x81",
                 "ab",
                 "\xE2\x96\x81"
                 "ab",
                 "<0x41>",
                 "<y>"};
  data.types = {TokenType::unknown, TokenType::normal, TokenType::normal, TokenType::normal,
                TokenType::normal,  TokenType::normal, TokenType::byte,   TokenType::user_defined};
  data.scores = {0, -3, -3, -3, -1, -2, 0, 0};
  data.unk = 0;
  return data;
}

}  // namespace
}  // namespace larder

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace larder;
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  switch (bytes[0] & 3) {
    case 0:
      use_file(parse_tokenizer_json(rest, "fuzz"), rest);
      break;
    case 1:
      use_file(parse_sentencepiece_model(std::as_bytes(std::span(rest)), "fuzz"), rest);
      break;
    case 2:
      use_file(parse_llama2c_tokenizer(std::as_bytes(std::span(rest)), "fuzz"), rest);
      break;
    default: {
      static const auto byte_bpe = Tokenizer::create(small_byte_bpe());
      static const auto sentencepiece = Tokenizer::create(small_sentencepiece());
      use(*byte_bpe.value(), rest);
      use(*sentencepiece.value(), rest);
    }
  }
  return 0;
}
