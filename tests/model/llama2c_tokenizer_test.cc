#include "model/io/llama2c_tokenizer.h"

#include <gtest/gtest.h>

#include <span>

#include "model/tokenizer_fixture.h"

namespace larder {
namespace {

Result<TokenizerData> parse(std::string_view bytes) {
  return parse_llama2c_tokenizer(std::as_bytes(std::span(bytes)), "t.bin");
}

TEST(Llama2cTokenizer, ReadsPiecesAsSentencePieceNamesThem) {
  const auto data = read_llama2c_tokenizer(tokenizer_fixture_path("tok512.bin"));
  ASSERT_TRUE(data) << data.error().message;
  ASSERT_EQ(data->tokens.size(), 512U);
  EXPECT_EQ(data->tokens[0], "<unk>");
  EXPECT_EQ(data->tokens[1], "<s>");
  EXPECT_EQ(data->tokens[2], "</s>");
  EXPECT_EQ(data->tokens[3], "<0x00>");
  EXPECT_EQ(data->tokens[258], "<0xFF>");
  EXPECT_EQ(data->types[258], TokenType::byte);
  EXPECT_EQ(data->tokens[410], "\xE2\x96\x81");
  EXPECT_EQ(data->bos, 1);
  EXPECT_EQ(data->eos, 2);
  EXPECT_TRUE(data->add_bos);
}

TEST(Llama2cTokenizer, SaysThatNothingIsThere) {
  const auto data = read_llama2c_tokenizer(tokenizer_fixture_path("none.bin"));
  ASSERT_FALSE(data);
  EXPECT_EQ(data.error().code, Errc::not_found);
}

TEST(Llama2cTokenizer, CutAnywhereIsAnErrorOrSmaller) {
  const std::string bytes = read_fixture(tokenizer_fixture_path("tok512.bin"));
  for (std::size_t n = 0; n < bytes.size(); n += 7) {
    const auto data = parse(std::string_view(bytes).substr(0, n));
    if (data) {
      EXPECT_LT(data->tokens.size(), 512U);
    } else {
      EXPECT_EQ(data.error().code, Errc::corrupt);
    }
  }
}

TEST(Llama2cTokenizer, RefusesLyingLengths) {
  std::string bytes = read_fixture(tokenizer_fixture_path("tok512.bin"));
  for (const std::string_view length :
       {"\xFF\xFF\xFF\xFF", "\xFF\xFF\xFF\x7F", "\x00\x10\x00\x40"}) {
    bytes.replace(8, 4, std::string(length.data(), 4));
    EXPECT_FALSE(parse(bytes));
  }
}

}  // namespace
}  // namespace larder
