// Token for token against the `tokenizers` and `sentencepiece` libraries, over the strings and
// tokenizers that tests/fixtures/make_tokenizer_fixtures.py made.
#include "model/text/tokenizer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "model/io/hf_tokenizer.h"
#include "model/io/llama2c_tokenizer.h"
#include "model/text/unicode.h"
#include "model/tokenizer_fixture.h"

namespace larder {
namespace {

Result<TokenizerData> load(const std::string& name) {
  const std::string path = tokenizer_fixture_path(name);
  if (name.ends_with(".bin")) return read_llama2c_tokenizer(path);
  if (!name.ends_with(".model")) return read_hf_tokenizer(path);
  const std::string bytes = read_fixture(path);
  auto data = parse_sentencepiece_model(std::as_bytes(std::span(bytes)), path);
  return data;
}

struct Case {
  const char* name;
  const char* pre;     // what a GGUF file of it would say
  bool parse_special;  // `sentencepiece` itself knows no control tokens in text
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class TokenizerFixtureTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    auto data = load(GetParam().name);
    ASSERT_TRUE(data) << data.error().message;
    if (data->kind == TokenizerKind::sentencepiece && !GetParam().parse_special) {
      data->add_bos = false;
    }
    EXPECT_EQ(data->pre, GetParam().pre);
    auto tokenizer = Tokenizer::create(std::move(*data));
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    tokenizer_ = std::move(*tokenizer);
  }

  std::vector<TokenId> arbitrary_ids(std::size_t i) const {
    std::vector<TokenId> ids;
    for (std::size_t j = 0; j < 12; ++j) {
      ids.push_back(static_cast<TokenId>((i * 7919 + j * 104729) % tokenizer_->n_vocab()));
    }
    return ids;
  }

  std::string stream(const std::vector<TokenId>& ids) const {
    StreamDecoder decoder(*tokenizer_, true);
    std::string text;
    for (const TokenId id : ids) {
      const std::string part = decoder.push(id);
      EXPECT_TRUE(is_valid_utf8(part));
      text += part;
    }
    return text + decoder.finish();
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(TokenizerFixtureTest, AgreesWithTheReferenceLibrary) {
  const auto strings = fixture_strings();
  const auto expected = fixture_expectations(GetParam().name);
  ASSERT_EQ(strings.size(), expected.size());
  std::size_t n_wrong = 0;
  for (std::size_t i = 0; i < strings.size() && n_wrong < 10; ++i) {
    const auto ids = tokenizer_->encode(
        strings[i], {.add_special = true, .parse_special = GetParam().parse_special});
    if (fnv(ids) != expected[i].ids) {
      ++n_wrong;
      ADD_FAILURE() << "string " << i << ": " << testing::PrintToString(strings[i]) << " -> "
                    << testing::PrintToString(ids);
      continue;
    }
    // Where it trims, `sentencepiece` drops every U+2581 at the beginning, also one of the text
    // itself.
    const std::size_t first = strings[i].find_first_not_of(' ');
    if (tokenizer_->data().trim_spaces && first != std::string::npos &&
        std::string_view(strings[i]).substr(first).starts_with(kSpaceSymbol)) {
      continue;
    }
    const std::string text = tokenizer_->decode(ids, false);
    if (static_cast<std::uint16_t>(fnv(text)) != expected[i].text) {
      ++n_wrong;
      ADD_FAILURE() << "string " << i << ": " << testing::PrintToString(strings[i])
                    << " is decoded as " << testing::PrintToString(text);
    }
    const std::string mixed = tokenizer_->decode(arbitrary_ids(i), false);
    if (expected[i].mixed != 0) {
      EXPECT_EQ(static_cast<std::uint16_t>(fnv(mixed)), expected[i].mixed)
          << "ids " << testing::PrintToString(arbitrary_ids(i)) << " are decoded as " << mixed;
    }
  }
}

TEST_P(TokenizerFixtureTest, StreamsWhatItDecodes) {
  const auto strings = fixture_strings();
  for (std::size_t i = 0; i < strings.size(); ++i) {
    for (const auto& ids : {tokenizer_->encode(strings[i], {}), arbitrary_ids(i)}) {
      ASSERT_EQ(stream(ids), tokenizer_->decode(ids, false)) << "string " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, TokenizerFixtureTest,
    testing::Values(Case{"gpt-2", "gpt-2", true}, Case{"prefix", "gpt-2", true},
                    Case{"llama-bpe", "llama-bpe", true}, Case{"dbrx", "dbrx", true},
                    Case{"qwen2", "qwen2", true}, Case{"smollm", "smollm", true},
                    Case{"tekken", "tekken", true}, Case{"gpt-4o", "gpt-4o", true},
                    Case{"llama-2", "", true}, Case{"normalized", "", true},
                    Case{"metaspace", "", true}, Case{"metaspace-split", "", true},
                    Case{"gemma", "", true}, Case{"tok512.model", "", false},
                    Case{"tok512.bin", "", false}, Case{"unknown.model", "", false}),
    [](const auto& suite_info) {
      std::string name = suite_info.param.name;
      for (char& c : name) {
        if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
      }
      return name;
    });

}  // namespace
}  // namespace larder
