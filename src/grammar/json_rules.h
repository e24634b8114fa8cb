// The parts of JSON that every schema needs, as rules of an automaton.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "grammar/automaton.h"

namespace larder {

/// Where something is read from and to.
struct GrammarSpan {
  GrammarState from, to;
};

/// Rules are made when they are first asked for. They are narrower than RFC 8259 where that keeps
/// a model from going astray: no white space but one space or a line break with at most 64 spaces
/// or tabs, and none before ',' or ':'; numbers of at most 18 digits before and behind the point
/// and two in the exponent; no halves of surrogate pairs.
class JsonRules {
 public:
  explicit JsonRules(GrammarBuilder& builder) : builder_(builder) {}

  GrammarState space();
  GrammarState string(Repeats n_characters = {});
  GrammarState number();
  GrammarState integer();
  GrammarState any();         // any value
  GrammarState any_object();  // with any members
  GrammarState any_array();
  void words(GrammarSpan span, std::initializer_list<std::string_view> words);
  /// The rest of a member's name behind its quotation mark, any but `names` (as JSON writes them,
  /// without quotation marks). Names are written without escapes.
  void other_name(GrammarSpan span, const std::set<std::string>& names);

 private:
  using Draw = void (JsonRules::*)(GrammarSpan);
  GrammarState rule(std::optional<GrammarState>& known, Draw draw);
  void draw_space(GrammarSpan span);
  void draw_number(GrammarSpan span);
  void draw_integer(GrammarSpan span);
  void draw_any(GrammarSpan span);
  void draw_any_object(GrammarSpan span);
  void draw_any_array(GrammarSpan span);
  void draw_digits(GrammarSpan span, Repeats n_digits);
  struct CharacterTails {
    std::array<GrammarState, 3> left;    // before so many bytes more
    std::array<GrammarState, 8> second;  // behind the first byte of each form of UTF-8
  };
  struct HalfCharacter {
    unsigned byte, n_left;  // the byte read last, how many are missing
  };
  CharacterTails tails(GrammarState body);
  void character(GrammarState from, const CharacterTails& tails, bool counts,
                 const std::set<unsigned>& but);
  void leave_character(GrammarState from, const HalfCharacter& half, const CharacterTails& tails,
                       const std::set<unsigned>& but);
  void escape(GrammarState from, GrammarState body);
  GrammarState hex_digits(unsigned n, GrammarState to);
  void range(GrammarState from, unsigned low, unsigned high, GrammarState to);

  GrammarBuilder& builder_;
  std::optional<GrammarState> space_, number_, integer_, any_, any_object_, any_array_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, GrammarState> strings_;
};

}  // namespace larder
