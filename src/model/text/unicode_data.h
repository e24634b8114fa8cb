// Tables behind to_nfc(): generated, sorted by their first member.
#pragma once

#include <cstdint>
#include <span>

namespace larder {

struct UnicodePair {
  char32_t whole, first, second;
};
struct UnicodeSingle {
  char32_t from, to;
};
struct UnicodeClass {
  char32_t begin, last;  // both included
  std::uint8_t combining_class;
};

extern const std::span<const UnicodePair> kComposingPairs;      // whole <-> first second
extern const std::span<const UnicodePair> kSplittingPairs;      // whole -> first second, never back
extern const std::span<const UnicodeSingle> kSplittingSingles;  // from -> to, never back
extern const std::span<const UnicodeClass> kCombiningClasses;   // others: class 0

}  // namespace larder
