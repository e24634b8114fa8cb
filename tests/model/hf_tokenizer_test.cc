#include "model/io/hf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>

#include "model/text/tokenizer.h"
#include "model/tokenizer_fixture.h"

namespace larder {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// A directory that goes with the test.
class HfTokenizerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "hf_tokenizer_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void write(const std::string& name, std::string_view text) const {
    std::ofstream(directory_ + "/" + name, std::ios::binary) << text;
  }
  void copy(const std::string& fixture, const std::string& name) const {
    write(name, read_fixture(tokenizer_fixture_path(fixture)));
  }

  std::string directory_;
};

/// A tokenizer.json of the byte-level kind with the given parts.
std::string byte_level_json(std::string_view pre_tokenizer, std::string_view rest = "") {
  return R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},"pre_tokenizer":)" +
         std::string(pre_tokenizer) + std::string(rest) + "}";
}
constexpr std::string_view kByteLevel =
    R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})";

Error error_of(std::string_view json) {
  const auto data = parse_tokenizer_json(json, "t.json");
  EXPECT_FALSE(data) << json;
  return data ? Error{} : data.error();
}

TEST_F(HfTokenizerTest, SaysThatNothingIsThere) {
  const auto data = read_hf_tokenizer(directory_);
  ASSERT_FALSE(data);
  EXPECT_EQ(data.error().code, Errc::not_found);
  EXPECT_THAT(data.error().message, HasSubstr(directory_));
}

TEST_F(HfTokenizerTest, ReadsWhatSurroundsTheVocabulary) {
  copy("llama-2/tokenizer.json", "tokenizer.json");
  write(
      "tokenizer_config.json",
      R"({"bos_token":{"content":"<s>"},"eos_token":"</s>","add_bos_token":false,"add_eos_token":true,
            "chat_template":[{"name":"tool_use","template":"T"},{"name":"default","template":"D"}]})");
  write("special_tokens_map.json", R"({"eos_token":"<s>","pad_token":"<unk>"})");
  const auto data = read_hf_tokenizer(directory_);
  ASSERT_TRUE(data) << data.error().message;
  EXPECT_EQ(data->tokens[static_cast<std::size_t>(data->bos)], "<s>");
  EXPECT_EQ(data->tokens[static_cast<std::size_t>(data->eos)], "</s>");  // the config comes first
  EXPECT_EQ(data->tokens[static_cast<std::size_t>(data->pad)], "<unk>");
  EXPECT_FALSE(data->add_bos);
  EXPECT_TRUE(data->add_eos);
  EXPECT_EQ(data->chat_template, "D");
  write("chat_template.jinja", "J");
  EXPECT_EQ(read_hf_tokenizer(directory_)->chat_template, "J");
}

TEST_F(HfTokenizerTest, ReadsASentencePieceModelWithAddedTokens) {
  copy("tok512.model", "tokenizer.model");
  write("tokenizer_config.json",
        R"({"added_tokens_decoder":{"1":{"content":"<s>","special":true},
            "512":{"content":"<|user|>","special":true,"rstrip":true}}})");
  write("added_tokens.json", R"({"<more>":513})");
  auto data = read_hf_tokenizer(directory_);
  ASSERT_TRUE(data) << data.error().message;
  EXPECT_EQ(data->tokens.size(), 514U);
  EXPECT_EQ(data->scores.size(), 514U);
  EXPECT_TRUE(data->add_bos);
  auto tokenizer = Tokenizer::create(std::move(*data));
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_THAT((*tokenizer)->encode("<|user|>  <more>", {}), ElementsAre(1, 512, 513));
}

TEST_F(HfTokenizerTest, NamesTheFileOfABrokenNeighbour) {
  copy("gpt-2/tokenizer.json", "tokenizer.json");
  for (const char* text : {"{", R"({"bos_token":{"content":7}})", R"({"add_bos_token":"yes"})",
                           R"({"chat_template":7})"}) {
    write("tokenizer_config.json", text);
    const auto data = read_hf_tokenizer(directory_);
    ASSERT_FALSE(data) << text;
    EXPECT_EQ(data.error().code, Errc::corrupt);
    EXPECT_THAT(data.error().message, HasSubstr("tokenizer_config.json"));
  }
}

TEST(TokenizerJson, RefusesWhatWouldChangeTheTokens) {
  const std::string unknown =
      R"({"type":"Split","pattern":{"Regex":"\\d+|x"},"behavior":"Isolated","invert":false})";
  const struct {
    std::string json;
    const char* mentions;
  } cases[] = {
      {byte_level_json(R"({"type":"Sequence","pretokenizers":[)" + unknown +
                       R"(,{"type":"ByteLevel","use_regex":false,"add_prefix_space":false}]})"),
       R"(\d+|x)"},
      {byte_level_json(R"({"type":"Whitespace"})"), "Whitespace"},
      {byte_level_json("null"), "combination"},
      {byte_level_json(kByteLevel, R"(,"normalizer":{"type":"Lowercase"})"), "Lowercase"},
      {byte_level_json(kByteLevel, R"(,"post_processor":{"type":"BertProcessing"})"),
       "BertProcessing"},
      {byte_level_json(kByteLevel,
                       R"(,"added_tokens":[{"id":3,"content":"x","single_word":true}])"),
       "single_word"},
      {R"({"model":{"type":"Unigram","vocab":[]}})", "Unigram"},
      {R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[],"end_of_word_suffix":"</w>"}})",
       "</w>"},
  };
  for (const auto& c : cases) {
    const Error error = error_of(c.json);
    EXPECT_EQ(error.code, Errc::unsupported) << c.json;
    EXPECT_THAT(error.message, HasSubstr(c.mentions));
    EXPECT_THAT(error.message, HasSubstr("t.json"));
  }
}

TEST(TokenizerJson, RefusesNonsense) {
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  for (const std::string& json :
       {std::string(), std::string("[]"), std::string("{}"), deep, "{\"model\":" + deep + "}",
        std::string(R"({"model":{"vocab":{"a":-1},"merges":[]}})"),
        std::string(R"({"model":{"vocab":{"a":1.5},"merges":[]}})"),
        std::string(R"({"model":{"vocab":{"a":18446744073709551615},"merges":[]}})"),
        std::string(R"({"model":{"vocab":{"a":4000000},"merges":[]}})"),
        std::string(R"({"model":{"vocab":{},"merges":[]}})"),
        std::string(R"({"model":{"vocab":{"a":0}}})"),
        std::string(R"({"model":{"vocab":{"a":0},"merges":[7]}})"),
        std::string(R"({"model":{"vocab":{"a":0},"merges":[["a"]]}})"),
        byte_level_json(kByteLevel, R"(,"added_tokens":[{"id":3}])"),
        byte_level_json(kByteLevel, R"(,"added_tokens":[{"content":"x"}])"),
        byte_level_json(kByteLevel, R"(,"added_tokens":[{"id":99999999,"content":"x"}])"),
        byte_level_json(R"({"type":"Sequence"})"), byte_level_json(R"({"type":7})")}) {
    EXPECT_EQ(error_of(json).code, Errc::corrupt) << json.substr(0, 100);
  }
}

TEST(TokenizerJson, MergesAreReadInBothSpellings) {
  const std::string pairs =
      R"({"model":{"vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]},"pre_tokenizer":)" +
      std::string(kByteLevel) + "}";
  for (const std::string& json : {pairs, byte_level_json(kByteLevel)}) {
    auto data = parse_tokenizer_json(json, "t.json");
    ASSERT_TRUE(data) << data.error().message;
    EXPECT_THAT(data->merges, ElementsAre("a b"));
    EXPECT_THAT((*Tokenizer::create(std::move(*data)))->encode("aba", {}), ElementsAre(2, 0));
  }
}

TEST(TokenizerJson, HolesInTheVocabularyAreFilled) {
  const auto data =
      parse_tokenizer_json(R"({"model":{"vocab":{"a":0,"b":5},"merges":[]},"pre_tokenizer":)" +
                               std::string(kByteLevel) + "}",
                           "t.json");
  ASSERT_TRUE(data) << data.error().message;
  EXPECT_THAT(data->tokens, ElementsAre("a", "[PAD1]", "[PAD2]", "[PAD3]", "[PAD4]", "b"));
  EXPECT_EQ(data->types[3], TokenType::unused);
}

TEST(TokenizerJson, CutAnywhereIsAnError) {
  const std::string json = read_fixture(tokenizer_fixture_path("gpt-2/tokenizer.json"));
  for (std::size_t n = 0; n < json.size(); n += 97) {
    EXPECT_EQ(error_of(std::string_view(json).substr(0, n)).code, Errc::corrupt) << n;
  }
}

Result<TokenizerData> parse_model(std::string_view bytes) {
  return parse_sentencepiece_model(std::as_bytes(std::span(bytes)), "t.model");
}

TEST(SentencePieceModel, CutAnywhereIsAnErrorOrSmaller) {
  const std::string bytes = read_fixture(tokenizer_fixture_path("tok512.model"));
  const auto whole = parse_model(bytes);
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_EQ(whole->tokens.size(), 512U);
  std::size_t n_tries = 0;
  std::size_t n_errors = 0;
  for (std::size_t n = 0; n < bytes.size(); n += n + 300 < bytes.size() ? 7 : 1, ++n_tries) {
    const auto data = parse_model(std::string_view(bytes).substr(0, n));
    if (data) {
      EXPECT_LE(data->tokens.size(), whole->tokens.size());
    } else {
      ++n_errors;
      EXPECT_EQ(data.error().code, Errc::corrupt);
    }
  }
  EXPECT_GT(n_errors, n_tries - 10);
}

TEST(SentencePieceModel, RefusesUnigramAndCharacterMaps) {
  using namespace std::string_literals;
  const std::string piece = "\x0A\x03\x0A\x01"s + "a";
  const std::string bpe = "\x12\x02\x18\x02"s;  // trainer_spec { model_type: BPE }
  const std::string unigram = "\x12\x02\x18\x01"s;
  const std::string plain = "\x1A\x02\x18\x00"s;  // normalizer_spec { add_dummy_prefix: false }
  const std::string mapped = "\x1A\x03\x12\x01\x00"s;  // normalizer_spec { precompiled_charsmap }
  EXPECT_TRUE(parse_model(piece + bpe + plain));
  for (const std::string& bytes : {piece + unigram + plain, piece + bpe + mapped}) {
    const auto data = parse_model(bytes);
    ASSERT_FALSE(data);
    EXPECT_EQ(data.error().code, Errc::unsupported);
  }
  for (const std::string& bytes :
       {piece + bpe, piece + plain, bpe + plain, piece + bpe + plain + "\xFF"}) {
    const auto data = parse_model(bytes);
    ASSERT_FALSE(data);
    EXPECT_EQ(data.error().code, Errc::corrupt);
  }
}

}  // namespace
}  // namespace larder
