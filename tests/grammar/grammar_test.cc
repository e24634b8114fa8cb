// The tokens that are open, against reading each of them; and random texts, against a validator.
#include "grammar/grammar.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "grammar/json_schema.h"
#include "grammar/schema_tools.h"

namespace larder {
namespace {

constexpr std::size_t kEnd = 0;  // the end token

/// All bytes one by one, and texts that cross the borders of JSON's parts.
std::vector<std::string> vocabulary(std::uint32_t seed) {
  std::vector<std::string> pieces = {""};
  for (int byte = 1; byte < 256; ++byte) pieces.emplace_back(1, static_cast<char>(byte));
  for (const char* word : {"true", "null",    " \"",  "\": ",    "\",\"",    "\"}",    "}]",
                           "},",   "abc",     "ab\"", "\n  ",    "12",       "-3",     ".5",
                           "1,",   "\\u00e9", "\\\"", "ab\":",   "\xC3\xA9", "\xA9\"", "b\xC3",
                           "[[",   "]]",      "{\"a", "\", \"b", "false,",   "abc"}) {
    pieces.emplace_back(word);
  }
  std::mt19937 random(seed);
  const std::string letters = "ab\"\\,:{}[] 1-.\n\xC3\xA9";
  for (int i = 0; i < 150; ++i) {
    std::string piece;
    for (std::size_t n = 2 + random() % 5; n > 0; --n) piece += letters[random() % letters.size()];
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

std::shared_ptr<const TokenBytes> tokens_of(const std::vector<std::string>& pieces) {
  return std::make_shared<const TokenBytes>(pieces, std::vector<TokenId>{kEnd});
}

/// Read byte by byte from the beginning, without any of the short cuts.
bool is_open(const GrammarAutomaton& automaton, const std::string& text) {
  GrammarRun run(automaton);
  for (const char c : text) run.push(static_cast<std::uint8_t>(c));
  return run.may_end() || !run.places().empty();
}

TEST(TokenBytes, AreSortedWithWhatTheyShare) {
  const TokenBytes tokens({"", "b", "ab", "a", "abc", "b"}, {});
  std::vector<std::string> sorted;
  for (const auto& entry : tokens.entries()) sorted.emplace_back(tokens.bytes(entry));
  EXPECT_EQ(sorted, (std::vector<std::string>{"a", "ab", "abc", "b", "b"}));
  EXPECT_EQ(tokens.entries()[2].n_common, 2U);
  EXPECT_EQ(tokens.entries()[4].n_common, 1U);
  EXPECT_EQ(tokens.first('a'), 0U);
  EXPECT_EQ(tokens.first('b'), 3U);
  EXPECT_EQ(tokens.first('c'), 5U);
  EXPECT_EQ(tokens.bytes_of(0), "");
  EXPECT_EQ(tokens.bytes_of(4), "abc");
  EXPECT_EQ(tokens.longest(), 3U);
}

TEST(TokenMask, HoldsIds) {
  TokenMask mask(130);
  EXPECT_TRUE(mask.empty());
  mask.add(129);
  EXPECT_EQ(mask.first(), 129);
  mask.add(64);
  EXPECT_EQ(mask.first(), 64);
  EXPECT_TRUE(mask.has(64) && mask.has(129) && !mask.has(0));
}

/// Draws a text token by token, mostly short ones: closing ones come more often.
class Drawer {
 public:
  Drawer(std::shared_ptr<const Grammar> grammar, std::vector<std::string> pieces,
         std::uint32_t seed)
      : grammar_(std::move(grammar)),
        pieces_(std::move(pieces)),
        matcher_(grammar_),
        random_(seed) {}

  /// False when it has not come to an end.
  bool draw(std::size_t max_tokens, bool check_each) {
    for (std::size_t i = 0; i < max_tokens; ++i) {
      const TokenMask open = matcher_.next_tokens(true);
      if (check_each) check(open);
      const TokenId token = choose(open);
      if (token == static_cast<TokenId>(kEnd)) return true;
      text_ += pieces_[static_cast<std::size_t>(token)];
      matcher_.accept(token);
      if (matcher_.is_over()) return true;
    }
    return false;
  }
  const std::string& text() const { return text_; }

 private:
  void check(const TokenMask& open) const {
    for (std::size_t id = 1; id < pieces_.size(); ++id) {
      const bool expected = is_open(grammar_->automaton(), text_ + pieces_[id]);
      ASSERT_EQ(open.has(static_cast<TokenId>(id)), expected)
          << "after <" << text_ << "> comes <" << pieces_[id] << ">";
    }
  }
  TokenId choose(const TokenMask& open) {
    std::vector<TokenId> ids, closing;
    for (std::size_t id = 0; id < pieces_.size(); ++id) {
      if (!open.has(static_cast<TokenId>(id))) continue;
      ids.push_back(static_cast<TokenId>(id));
      const bool closes = id == kEnd || pieces_[id] == "\"" || pieces_[id] == "}" ||
                          pieces_[id] == "]" || pieces_[id] == "1";
      if (closes) closing.push_back(static_cast<TokenId>(id));
    }
    const auto& from = !closing.empty() && random_() % 3 > 0 ? closing : ids;
    return from.at(random_() % from.size());
  }

  std::shared_ptr<const Grammar> grammar_;
  std::vector<std::string> pieces_;
  GrammarMatcher matcher_;
  std::mt19937 random_;
  std::string text_;
};

std::shared_ptr<const Grammar> grammar_of(const Json& schema, std::vector<std::string>& pieces) {
  auto automaton = compile_json_schema(schema.dump());
  EXPECT_TRUE(automaton.has_value()) << automaton.error().message << schema;
  if (!automaton) return nullptr;
  return std::make_shared<const Grammar>(std::move(*automaton), tokens_of(pieces));
}

TEST(Grammar, OpenTokensAreThoseThatCanBeRead) {
  RandomSchemas schemas(11);
  for (std::uint32_t i = 0; i < 40; ++i) {
    const Json schema = schemas.next();
    auto pieces = vocabulary(i);
    const auto grammar = grammar_of(schema, pieces);
    ASSERT_NE(grammar, nullptr);
    Drawer(grammar, pieces, i).draw(25, /*check_each=*/true);
    if (HasFatalFailure()) FAIL() << schema;
  }
}

TEST(Grammar, RandomTextsSatisfyTheirSchemas) {
  RandomSchemas schemas(5);
  std::size_t n_whole = 0;
  constexpr std::uint32_t kTexts = 400;
  for (std::uint32_t i = 0; i < kTexts; ++i) {
    const Json schema = schemas.next();
    auto pieces = vocabulary(i % 7);
    const auto grammar = grammar_of(schema, pieces);
    ASSERT_NE(grammar, nullptr);
    for (std::uint32_t again = 0; again < 3; ++again) {
      Drawer drawer(grammar, pieces, 3 * i + again);
      if (!drawer.draw(2000, /*check_each=*/false)) continue;
      ++n_whole;
      const Json value = Json::parse(drawer.text(), nullptr, /*allow_exceptions=*/false);
      ASSERT_FALSE(value.is_discarded()) << drawer.text();
      ASSERT_TRUE(satisfies(value, schema, schema)) << drawer.text() << "\n" << schema;
    }
  }
  EXPECT_GT(n_whole, 3 * kTexts * 9 / 10);
}

TEST(Grammar, WhatIsRememberedChangesNothing) {
  const Json schema = Json::parse(
      R"({"type":"array","items":{"type":"object","properties":{"a":{"type":"string","maxLength":9},
          "b":{"type":"array","items":{"type":"integer"},"maxItems":3}}},"maxItems":4})");
  auto pieces = vocabulary(3);
  const auto warm = grammar_of(schema, pieces);
  for (std::uint32_t seed = 0; seed < 30; ++seed) {
    Drawer first(warm, pieces, seed), fresh(grammar_of(schema, pieces), pieces, seed);
    EXPECT_EQ(first.draw(300, false), fresh.draw(300, false));
    EXPECT_EQ(first.text(), fresh.text());
  }
}

TEST(Grammar, SeveralThreadsShareOne) {
  const Json schema = RandomSchemas(17).next();
  auto pieces = vocabulary(2);
  const auto shared = grammar_of(schema, pieces);
  std::vector<std::string> texts(4);
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < texts.size(); ++i) {
    threads.emplace_back([&, i] {
      Drawer drawer(shared, pieces, i);
      drawer.draw(200, false);
      texts[i] = drawer.text();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::uint32_t i = 0; i < texts.size(); ++i) {
    Drawer alone(grammar_of(schema, pieces), pieces, i);
    alone.draw(200, false);
    EXPECT_EQ(texts[i], alone.text());
  }
}

/// More alternatives at once than are followed: each allows strings of another length.
Json many_alternatives() {
  Json schema;
  for (int i = 0; i < 400; ++i) schema["anyOf"].push_back({{"maxLength", 10 + i}});
  return schema;
}

TEST(Grammar, AlternativesBeyondThoseFollowedAreGivenUp) {
  const Json schema = many_alternatives();
  std::vector<std::string> pieces = {"", "\"", "a", "aa", "a\""};
  const auto grammar = grammar_of(schema, pieces);
  for (std::uint32_t seed = 0; seed < 5; ++seed) {
    Drawer drawer(grammar, pieces, seed);
    ASSERT_TRUE(drawer.draw(2000, /*check_each=*/false));
    EXPECT_TRUE(satisfies(Json::parse(drawer.text()), schema, schema)) << drawer.text();
  }
}

TEST(Grammar, TheWorkForOnePlaceIsBounded) {
  const Json schema = {{"items", many_alternatives()}};
  std::vector<std::string> pieces = {"", "[", "\"", "a", "]"};
  for (char c = 'A'; c <= 'Z'; ++c) {  // from one place to 256, then character by character
    pieces.push_back("[\"" + std::string(1, c) + std::string(80, 'a'));
  }
  const auto grammar = grammar_of(schema, pieces);
  GrammarMatcher matcher(grammar);
  const TokenMask open = matcher.next_tokens(true);
  EXPECT_TRUE(open.has(1));
  EXPECT_FALSE(open.has(2));
  EXPECT_TRUE(open.has(5));
  EXPECT_FALSE(open.has(30));  // could be read
  GrammarMatcher fresh(grammar_of(schema, pieces));
  EXPECT_EQ(fresh.next_tokens(true).word(0), open.word(0));
  for (const TokenId id : {1, 2, 3, 2, 4}) {
    ASSERT_TRUE(matcher.next_tokens(true).has(id));
    matcher.accept(id);
  }
  EXPECT_TRUE(matcher.is_over());
}

TEST(Grammar, NestingHasAnEnd) {
  std::vector<std::string> pieces = {"", "[", "]", "[["};
  GrammarMatcher matcher(grammar_of(Json::parse(R"({"items":{"$ref":"#"}})"), pieces));
  std::size_t n_levels = 0;
  while (n_levels < 10'000 && matcher.next_tokens(true).has(1)) {
    matcher.accept(1);
    ++n_levels;
  }
  EXPECT_GT(n_levels, 200U);
  EXPECT_LT(n_levels, std::size_t{GrammarRun::kMaxCalls});
  for (; n_levels > 0; --n_levels) {
    ASSERT_TRUE(matcher.next_tokens(true).has(2));
    matcher.accept(2);
  }
  EXPECT_TRUE(matcher.is_over());
}

TEST(Grammar, IsStuckWhereTheVocabularyLacksAByte) {
  std::vector<std::string> pieces = {"", "\"", "a"};
  GrammarMatcher matcher(grammar_of(Json::parse(R"({"const":"ab"})"), pieces));
  for (const TokenId id : {1, 2}) {
    ASSERT_TRUE(matcher.next_tokens(true).has(id));
    matcher.accept(id);
  }
  EXPECT_TRUE(matcher.next_tokens(true).empty());
  EXPECT_FALSE(matcher.is_over());
}

TEST(Grammar, IsOverWhenNothingCanFollow) {
  std::vector<std::string> pieces = {"", "4", "true", "{", "}", "tr", "ue"};
  GrammarMatcher word(grammar_of(Json::parse(R"({"type":"boolean"})"), pieces));
  word.accept(5);
  EXPECT_FALSE(word.is_over());
  EXPECT_FALSE(word.next_tokens(true).has(kEnd));
  word.accept(6);
  EXPECT_TRUE(word.is_over());
  GrammarMatcher number(grammar_of(Json::parse(R"({"type":"integer"})"), pieces));
  number.accept(1);
  EXPECT_FALSE(number.is_over());
  EXPECT_TRUE(number.next_tokens(true).has(kEnd));
  EXPECT_FALSE(number.next_tokens(false).has(kEnd));
}

}  // namespace
}  // namespace larder
