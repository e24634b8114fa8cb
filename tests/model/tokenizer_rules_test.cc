// Rules that the fixtures do not reach: bad data, options, long words, the pieces of Unicode.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "model/io/hf_tokenizer.h"
#include "model/io/llama2c_tokenizer.h"
#include "model/text/pretokenizer.h"
#include "model/text/tokenizer.h"
#include "model/text/unicode.h"
#include "model/tokenizer_fixture.h"

namespace larder {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TokenizerData small_byte_bpe() {
  TokenizerData data;
  data.kind = TokenizerKind::byte_bpe;
  data.pre = "gpt-2";
  data.tokens = {"a", "b", "\u0120", "ab", "\u0120ab", "<x>", "<xy>"};
  data.types.assign(data.tokens.size(), TokenType::normal);
  data.types[5] = TokenType::control;
  data.types[6] = TokenType::user_defined;
  data.merges = {"a b", "\u0120 ab"};
  return data;
}

TokenizerData small_sentencepiece() {
  TokenizerData data;
  data.kind = TokenizerKind::sentencepiece;
  data.tokens = {"<unk>", "a", "b", "\u2581", "ab", "\u2581ab", "<0x41>", "<y>"};
  data.types = {TokenType::unknown, TokenType::normal, TokenType::normal, TokenType::normal,
                TokenType::normal,  TokenType::normal, TokenType::byte,   TokenType::user_defined};
  data.scores = {0, -3, -3, -3, -1, -2, 0, 0};
  data.unk = 0;
  return data;
}

std::unique_ptr<Tokenizer> make(TokenizerData data) {
  auto tokenizer = Tokenizer::create(std::move(data));
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return tokenizer ? std::move(*tokenizer) : nullptr;
}

template <class Change>
Error refused(TokenizerData data, Change&& change) {
  change(data);
  const auto tokenizer = Tokenizer::create(std::move(data));
  EXPECT_FALSE(tokenizer);
  return tokenizer ? Error{} : tokenizer.error();
}

TEST(TokenizerCreate, RefusesDataThatContradictsItself) {
  const auto corrupt = [](auto&& change) {
    EXPECT_EQ(refused(small_byte_bpe(), change).code, Errc::corrupt);
    EXPECT_EQ(refused(small_sentencepiece(), change).code, Errc::corrupt);
  };
  corrupt([](TokenizerData& d) { d.tokens.clear(); });
  corrupt([](TokenizerData& d) { d.types.pop_back(); });
  corrupt([](TokenizerData& d) { d.scores = {1}; });
  corrupt([](TokenizerData& d) {
    d.scores.assign(d.tokens.size(), std::numeric_limits<float>::quiet_NaN());
  });
  corrupt([](TokenizerData& d) { d.merges = {"a nothing"}; });
  corrupt([](TokenizerData& d) { d.merges = {"ab"}; });
  corrupt([](TokenizerData& d) { d.merges = {""}; });
  corrupt([](TokenizerData& d) { d.bos = 100; });
  corrupt([](TokenizerData& d) { d.eos = -2; });
  corrupt([](TokenizerData& d) { d.end_tokens = {7000}; });
  corrupt([](TokenizerData& d) { d.added = {{.id = 100, .text = "x"}}; });
  corrupt([](TokenizerData& d) { d.added = {{.id = 0, .text = ""}}; });
  corrupt([](TokenizerData& d) { d.added = {{.id = 0, .text = std::string(1 << 20, 'x')}}; });
  EXPECT_EQ(refused(small_sentencepiece(), [](auto& d) { d.scores.clear(); }).code, Errc::corrupt);
  EXPECT_EQ(refused(small_sentencepiece(), [](auto& d) { d.tokens[6] = "<0x4>"; }).code,
            Errc::corrupt);
}

TEST(TokenizerCreate, NamesWhatItDoesNotKnow) {
  const Error error = refused(small_byte_bpe(), [](auto& d) { d.pre = "from-the-future"; });
  EXPECT_EQ(error.code, Errc::unsupported);
  EXPECT_THAT(error.message, HasSubstr("from-the-future"));
  EXPECT_EQ(refused(TokenizerData{}, [](auto& d) { d.tokens = {"a"}; }).code, Errc::unsupported);
}

TEST(Tokenizer, SpecialTokensInTextFollowTheOption) {
  const auto tokenizer = make(small_byte_bpe());
  EXPECT_THAT(tokenizer->encode("ab<x>ab", {}), ElementsAre(3, 5, 3));
  // "<", "x", ">" are no tokens of this vocabulary and are dropped; user-defined ones always count.
  EXPECT_THAT(tokenizer->encode("ab<x>ab<xy>", {.add_special = true, .parse_special = false}),
              ElementsAre(3, 3, 6));
  EXPECT_EQ(tokenizer->piece(5, false), "");
  EXPECT_EQ(tokenizer->piece(5, true), "<x>");
  EXPECT_EQ(tokenizer->piece(4, false), " ab");
  EXPECT_EQ(tokenizer->piece(-1, true), "");
  EXPECT_EQ(tokenizer->piece(700, true), "");
}

TEST(Tokenizer, UnknownCharactersFallBackToBytesThenToUnk) {
  const auto tokenizer = make(small_sentencepiece());
  EXPECT_THAT(tokenizer->encode("abA", {}), ElementsAre(5, 6));
  EXPECT_THAT(tokenizer->encode("ab??\u00E4ab", {}), ElementsAre(5, 0, 4));
  EXPECT_THAT(tokenizer->encode("<y>", {}), ElementsAre(7));
}

TEST(Tokenizer, EndTokensAreTheNamedOnesAndTheKnownOnes) {
  TokenizerData data = small_byte_bpe();
  data.tokens[5] = "<|im_end|>";
  data.eos = 0;
  data.end_tokens = {1};
  const auto tokenizer = make(std::move(data));
  for (const TokenId id : {0, 1, 5}) EXPECT_TRUE(tokenizer->ends_generation(id));
  for (const TokenId id : {-1, 2, 6, 99}) EXPECT_FALSE(tokenizer->ends_generation(id));
}

/// Merging pair by pair, the best first, as the definition says.
std::vector<TokenId> merge_slowly(const TokenizerData& data, std::vector<std::string> parts) {
  const auto find = [&](const std::string& text) {
    return std::find(data.tokens.begin(), data.tokens.end(), text) - data.tokens.begin();
  };
  for (;;) {
    std::size_t best = data.merges.size();
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto rank = static_cast<std::size_t>(
          std::find(data.merges.begin(), data.merges.end(), parts[i] + " " + parts[i + 1]) -
          data.merges.begin());
      if (rank < best) best = rank, at = i;
    }
    if (best == data.merges.size()) break;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  std::vector<TokenId> ids;
  for (const std::string& part : parts) ids.push_back(static_cast<TokenId>(find(part)));
  return ids;
}

TEST(Tokenizer, MergesLikeTheDefinition) {
  std::mt19937 random(3);
  for (int round = 0; round < 40; ++round) {
    TokenizerData data;
    data.kind = round % 2 == 0 ? TokenizerKind::byte_bpe : TokenizerKind::sentencepiece;
    data.pre = "gpt-2";
    data.add_space_prefix = false;
    data.tokens = {"a", "b", "c"};
    for (int i = 0; i < 20; ++i) {
      const std::string left = data.tokens[random() % data.tokens.size()];
      const std::string right = data.tokens[random() % data.tokens.size()];
      const bool known =
          std::find(data.tokens.begin(), data.tokens.end(), left + right) != data.tokens.end();
      if (known || left.size() + right.size() > 6) continue;
      data.tokens.push_back(left + right);
      data.merges.push_back(left + " " + right);
    }
    const auto tokenizer = make(data);
    for (int i = 0; i < 20; ++i) {
      std::vector<std::string> parts(1 + random() % 60);
      std::string text;
      for (std::string& part : parts)
        text += part = std::string(1, static_cast<char>('a' + random() % 3));
      EXPECT_EQ(tokenizer->encode(text, {}), merge_slowly(data, parts)) << text;
    }
  }
}

TEST(Tokenizer, AVeryLongWordIsNoTrouble) {
  const std::string long_word(1 << 17, 'a');
  TokenizerData data = small_byte_bpe();
  data.tokens[3] = "aa";
  data.tokens[4] = "aaaa";
  data.merges = {"a a", "aa aa"};
  EXPECT_EQ(make(std::move(data))->encode(long_word, {}).size(), long_word.size() / 4);
  auto scored = read_llama2c_tokenizer(tokenizer_fixture_path("tok512.bin"));
  ASSERT_TRUE(scored);
  const auto tokenizer = make(std::move(*scored));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(long_word, {}), false), long_word);
}

TEST(StreamDecoder, HoldsUnfinishedCharactersBack) {
  auto data = read_llama2c_tokenizer(tokenizer_fixture_path("tok512.bin"));
  ASSERT_TRUE(data);
  const auto tokenizer = make(std::move(*data));
  StreamDecoder decoder(*tokenizer);
  const auto byte = [](unsigned char b) { return static_cast<TokenId>(3 + b); };
  EXPECT_EQ(decoder.push(byte(0xF0)), "");
  EXPECT_EQ(decoder.push(byte(0x9F)), "");
  EXPECT_EQ(decoder.push(byte(0x98)), "");
  EXPECT_EQ(decoder.push(byte(0x80)), "\xF0\x9F\x98\x80");
  EXPECT_EQ(decoder.push(byte(0xFF)), "\uFFFD");  // can never be valid
  EXPECT_EQ(decoder.push(byte(0xE2)), "");
  EXPECT_EQ(decoder.push(byte('a')), "\uFFFDa");
  EXPECT_EQ(decoder.push(byte(0xE2)), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(PreTokenizer, DefaultCutsAsLlamaCppDoes) {
  const auto cut = PreTokenizer::create(*find_pre_tokenizer(""));
  ASSERT_TRUE(cut) << cut.error().message;
  std::vector<std::string_view> words;
  cut->split("Hi, 12345  x==y", words);
  EXPECT_THAT(words, ElementsAre("Hi", ",", " ", "123", "45", " ", " x", "==", "y"));
  cut->split("", words);
  EXPECT_THAT(words, IsEmpty());
}

TEST(PreTokenizer, DeepSeekCutsAsTokenizersDoes) {
  const auto cut = PreTokenizer::create(*find_pre_tokenizer("deepseek-llm"));
  ASSERT_TRUE(cut) << cut.error().message;
  std::vector<std::string_view> words;
  // The marks' ":-~" holds the plain letters, so a word is cut where it leaves them.
  cut->split("Hello  World\n\n x+=12, \u4f60\u597d\uff01caf\u00e9  ", words);
  EXPECT_THAT(words, ElementsAre("Hello", " ", " World", "\n", "\n", " x", "+=", "1", "2", ",", " ",
                                 "\u4f60\u597d", "\uff01", "caf", "\u00e9", "  "));
  cut->split("don't  \u0661\u0662 \u05d0\u05d1 a_b\t\tc\r\n  ", words);
  EXPECT_THAT(words, ElementsAre("don", "'", "t", "  ", "\u0661", "\u0662", " \u05d0\u05d1", " a",
                                 "_", "b", "\t", "\tc", "\r", "\n", "  "));
}

TEST(PreTokenizer, EveryRuleKeepsEveryByte) {
  for (const char* name : {"gpt-2", "olmo", "llama-bpe", "dbrx", "qwen2", "stablelm2", "smollm",
                           "tekken", "gpt-4o", "default", "starcoder", "deepseek-llm"}) {
    const PreTokenizerRule* rule = find_pre_tokenizer(name);
    ASSERT_NE(rule, nullptr) << name;
    const auto cut = PreTokenizer::create(*rule);
    ASSERT_TRUE(cut) << cut.error().message;
    for (const std::string& raw : fixture_strings()) {
      std::string text;
      append_valid_utf8(raw, false, text);
      std::vector<std::string_view> words;
      cut->split(text, words);
      std::string joined;
      for (const std::string_view word : words) joined += word;
      ASSERT_EQ(joined, text) << name;
    }
  }
}

TEST(Unicode, ReplacesTheLongestInvalidParts) {
  const auto valid = [](std::string_view bytes) {
    std::string out;
    append_valid_utf8(bytes, false, out);
    return out;
  };
  EXPECT_EQ(valid("\xF0\x9F\x98"
                  "a"),
            "\uFFFDa");
  EXPECT_EQ(valid("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // a surrogate
  EXPECT_EQ(valid("\xC0\xAF"), "\uFFFD\uFFFD");            // overlong
  EXPECT_EQ(valid("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");
  std::string out;
  EXPECT_EQ(append_valid_utf8("a\xE2\x82", true, out), 1U);
  EXPECT_EQ(out, "a");
}

TEST(Unicode, ComposesCanonically) {
  EXPECT_EQ(to_nfc("plain caf\u00E9"), "plain caf\u00E9");
  EXPECT_EQ(to_nfc("e\u0301"), "\u00E9");
  EXPECT_EQ(to_nfc("q\u0307\u0323"), "q\u0323\u0307");  // marks in order
  EXPECT_EQ(to_nfc("\u1E9B\u0323"), "\u1E9B\u0323");    // blocked
  EXPECT_EQ(to_nfc("\u212B"), "\u00C5");                // a singleton
  EXPECT_EQ(to_nfc("\u0958"), "\u0915\u093C");          // never composed
  EXPECT_EQ(to_nfc("\u1112\u1161\u11AB"), "\uD55C");    // Hangul
  EXPECT_EQ(to_nfc("\u0344"), "\u0308\u0301");
  EXPECT_EQ(to_nfc("u\u0308\u0304"), "\u01D6");
}

}  // namespace
}  // namespace larder
