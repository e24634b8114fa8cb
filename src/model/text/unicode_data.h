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

std::span<const UnicodePair> composing_pairs() noexcept;      // whole <-> first second
std::span<const UnicodePair> splitting_pairs() noexcept;      // whole -> first second, never back
std::span<const UnicodeSingle> splitting_singles() noexcept;  // from -> to, never back
std::span<const UnicodeClass> combining_classes() noexcept;   // others: class 0

}  // namespace larder
