#include "engine/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace larder {
namespace {

TEST(StopMatcher, PassesTextThroughWithoutStops) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.push("abc"), "abc");
  EXPECT_EQ(matcher.finish(), "");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, HoldsBackWhatMayBecomeAStop) {
  StopMatcher matcher({"\nUser:"});
  EXPECT_EQ(matcher.push("Hi\nUs"), "Hi");
  EXPECT_EQ(matcher.push("a\nUser"), "\nUsa");
  EXPECT_EQ(matcher.push(": more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.push("later"), "");
}

TEST(StopMatcher, GivesBackWhatNeverBecameOne) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.push("the E"), "the ");
  EXPECT_EQ(matcher.finish(), "E");
}

TEST(StopMatcher, EarliestOfSeveralWins) {
  StopMatcher matcher({"late", "a l"});
  EXPECT_EQ(matcher.push("such a late hour"), "such ");
  EXPECT_TRUE(matcher.stopped());
}

TEST(StopMatcher, EmptyStopIsIgnored) {
  StopMatcher matcher({""});
  EXPECT_EQ(matcher.push("text"), "text");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, AnyCutOfTheTextGivesTheSameResult) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    const auto letters = [&](std::size_t n) {
      std::string s;
      for (std::size_t i = 0; i < n; ++i) s += static_cast<char>('a' + random() % 2);
      return s;
    };
    const std::string text = letters(random() % 24);
    const std::vector<std::string> stops = {letters(1 + random() % 4), letters(1 + random() % 6)};
    const auto found = std::min(text.find(stops[0]), text.find(stops[1]));
    StopMatcher matcher(stops);
    std::string shown;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t n = 1 + random() % 3;
      shown += matcher.push(std::string_view(text).substr(at, n));
      // A stop string that is complete in the same push may begin later than one that is not, so
      // only what was pushed so far counts: compare prefixes.
      EXPECT_TRUE(text.starts_with(shown));
      at += n;
    }
    shown += matcher.finish();
    EXPECT_EQ(matcher.stopped(), found != std::string::npos);
    if (!matcher.stopped()) {
      EXPECT_EQ(shown, text);
    }
  }
}

}  // namespace
}  // namespace larder
