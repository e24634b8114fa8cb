#include "engine/token_kinds.h"

#include <gtest/gtest.h>

#include "engine/schedule_models.h"

namespace larder {
namespace {

using namespace schedule;

TEST(TokenKinds, SpecialOnesAndPunctuationAreKnown) {
  const auto engine = open_engine(base_options());
  const Tokenizer& tokenizer = engine->tokenizer();
  const std::vector<TokenKind> kinds = token_kinds(tokenizer, 512);
  ASSERT_EQ(kinds.size(), 512U);
  const auto last_of = [&](std::string_view text) {
    const auto ids = tokenizer.encode(text, {.add_special = false, .parse_special = false});
    return kinds[static_cast<std::size_t>(ids.back())];
  };
  EXPECT_EQ(kinds[static_cast<std::size_t>(tokenizer.data().bos)], TokenKind::special);
  EXPECT_EQ(last_of("word,"), TokenKind::punctuation);
  EXPECT_EQ(last_of("word."), TokenKind::punctuation);
  EXPECT_EQ(last_of("words"), TokenKind::plain);
  EXPECT_EQ(last_of("word "), TokenKind::plain);                    // a blank is no sign
  EXPECT_EQ(token_kinds(tokenizer, 600).back(), TokenKind::plain);  // ids without a text
  EXPECT_EQ(token_kinds(tokenizer, 3).size(), 3U);
}

}  // namespace
}  // namespace larder
