// Canonical decomposition, ordering and composition: Unicode Standard Annex 15.
#include <algorithm>
#include <vector>

#include "model/text/unicode.h"
#include "model/text/unicode_data.h"

namespace larder {
namespace {

// Hangul syllables are composed by arithmetic (The Unicode Standard, 3.12).
constexpr char32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr char32_t kNLeads = 19, kNVowels = 21, kNTails = 28;
constexpr char32_t kNSyllables = kNLeads * kNVowels * kNTails;

std::uint8_t combining_class(char32_t c) noexcept {
  if (c < 0x300) return 0;
  const auto classes = combining_classes();
  const auto it = std::lower_bound(classes.begin(), classes.end(), c,
                                   [](const UnicodeClass& a, char32_t x) { return a.last < x; });
  return it != classes.end() && it->begin <= c ? it->combining_class : 0;
}

const UnicodePair* find_pair(std::span<const UnicodePair> pairs, char32_t whole) noexcept {
  const auto it = std::lower_bound(pairs.begin(), pairs.end(), whole,
                                   [](const UnicodePair& a, char32_t x) { return a.whole < x; });
  return it != pairs.end() && it->whole == whole ? &*it : nullptr;
}

void decompose(char32_t c, std::u32string& out) {
  if (c < 0xC0) {
    out += c;
    return;
  }
  if (c >= kSyllables && c < kSyllables + kNSyllables) {
    const char32_t i = c - kSyllables;
    out += static_cast<char32_t>(kLeads + i / (kNVowels * kNTails));
    out += static_cast<char32_t>(kVowels + i % (kNVowels * kNTails) / kNTails);
    if (i % kNTails != 0) out += static_cast<char32_t>(kTails + i % kNTails);
    return;
  }
  const auto singles = splitting_singles();
  const UnicodePair* pair = find_pair(composing_pairs(), c);
  if (pair == nullptr) pair = find_pair(splitting_pairs(), c);
  if (pair != nullptr) {
    decompose(pair->first, out);
    decompose(pair->second, out);
    return;
  }
  const auto it = std::lower_bound(singles.begin(), singles.end(), c,
                                   [](const UnicodeSingle& a, char32_t x) { return a.from < x; });
  if (it != singles.end() && it->from == c) {
    decompose(it->to, out);
  } else {
    out += c;
  }
}

/// The pairs by what they are made of.
const std::vector<UnicodePair>& pairs_by_parts() {
  static const std::vector<UnicodePair> sorted = [] {
    std::vector<UnicodePair> pairs(composing_pairs().begin(), composing_pairs().end());
    std::sort(pairs.begin(), pairs.end(), [](const UnicodePair& a, const UnicodePair& b) {
      return a.first != b.first ? a.first < b.first : a.second < b.second;
    });
    return pairs;
  }();
  return sorted;
}

/// 0 when the two do not compose.
char32_t compose(char32_t a, char32_t b) {
  if (a >= kLeads && a < kLeads + kNLeads && b >= kVowels && b < kVowels + kNVowels) {
    return kSyllables + ((a - kLeads) * kNVowels + (b - kVowels)) * kNTails;
  }
  if (a >= kSyllables && a < kSyllables + kNSyllables && (a - kSyllables) % kNTails == 0 &&
      b > kTails && b < kTails + kNTails) {
    return a + (b - kTails);
  }
  const auto& pairs = pairs_by_parts();
  const auto it =
      std::lower_bound(pairs.begin(), pairs.end(), b, [&](const UnicodePair& p, char32_t second) {
        return p.first != a ? p.first < a : p.second < second;
      });
  return it != pairs.end() && it->first == a && it->second == b ? it->whole : 0;
}

void order_marks(std::u32string& text) {
  for (std::size_t i = 0; i < text.size();) {
    if (combining_class(text[i]) == 0) {
      ++i;
      continue;
    }
    std::size_t end = i;
    while (end < text.size() && combining_class(text[end]) != 0) ++end;
    std::stable_sort(text.begin() + static_cast<std::ptrdiff_t>(i),
                     text.begin() + static_cast<std::ptrdiff_t>(end), [](char32_t a, char32_t b) {
                       return combining_class(a) < combining_class(b);
                     });
    i = end;
  }
}

/// REQUIRES: decomposed and ordered. Composes in place.
void compose_all(std::u32string& text) {
  constexpr std::size_t kNone = ~std::size_t{0};
  std::size_t starter = kNone;  // the last character of class 0 that was kept
  std::size_t n_kept = 0;
  std::uint8_t last_class = 0;  // of the last character kept after the starter
  for (const char32_t c : text) {
    const std::uint8_t cls = combining_class(c);
    // Blocked when a kept character in between has class 0 or a class at least as high.
    const bool adjacent = starter != kNone && n_kept == starter + 1;
    if (starter != kNone && (adjacent || (last_class < cls))) {
      if (const char32_t whole = compose(text[starter], c); whole != 0) {
        text[starter] = whole;
        continue;
      }
    }
    if (cls == 0) starter = n_kept;
    last_class = cls;
    text[n_kept++] = c;
  }
  text.resize(n_kept);
}

}  // namespace

std::string to_nfc(std::string_view text) {
  // U+0300 begins with the byte 0xCC; nothing below it ever changes.
  const bool unchanged = std::all_of(text.begin(), text.end(),
                                     [](char c) { return static_cast<unsigned char>(c) < 0xCC; });
  if (unchanged) return std::string(text);
  std::u32string points;
  points.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Step step = next_character(text.substr(i));
    decompose(step.code_point, points);
    i += step.n_bytes;
  }
  order_marks(points);
  compose_all(points);
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : points) append_utf8(c, out);
  return out;
}

}  // namespace larder
