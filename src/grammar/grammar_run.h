// A text on its way through an automaton.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "grammar/automaton.h"

namespace larder {

/// What is left of a repetition.
struct RepeatsLeft {
  std::uint32_t room = Repeats::kNoLimit;  // how often more it may be; kNoLimit: any number
  std::uint32_t need = 0;                  // how often more it must be
  bool operator==(const RepeatsLeft&) const = default;
};

/// Where a text may be: all the places at once, since alternatives may begin alike. Bytes are
/// pushed and popped; each push is a level. Works on a copy of nothing but its own places, so that
/// many runs share an automaton. At most kMaxPlaces are followed, and calls inside of at most
/// kMaxCalls others: what is beyond is given up, which forbids texts but never allows wrong ones.
/// Not thread-safe.
class GrammarRun {
 public:
  static constexpr std::size_t kMaxPlaces = 256;
  static constexpr std::uint32_t kMaxCalls = 2048;
  static constexpr std::uint32_t kOutermost = UINT32_MAX;    // no call is open
  static constexpr std::uint32_t kUnknown = UINT32_MAX - 1;  // open calls that are not known

  struct Place {
    GrammarState state = 0;
    RepeatsLeft left;
    std::uint32_t frame = kOutermost;
  };

  /// At the beginning of a text. `automaton` must outlive it.
  explicit GrammarRun(const GrammarAutomaton& automaton);
  /// In the middle of a call that nothing is known of but this.
  GrammarRun(const GrammarAutomaton& automaton, GrammarState state, RepeatsLeft left);

  /// Reads a byte: a level more, which may have no places left.
  void push(std::uint8_t byte);
  void pop_to(std::size_t n_levels);
  std::size_t n_levels() const noexcept { return levels_.size() - 1; }
  /// What was read is the beginning of the text now.
  void commit();

  std::span<const Place> places() const noexcept;
  /// The text may end here.
  bool may_end() const noexcept { return levels_.back().may_end; }
  /// The call that nothing was known of may have ended here.
  bool left_unknown() const noexcept { return levels_.back().left_unknown; }
  /// All there is to know about what may follow within `n_bytes`, appended to `key`. False when
  /// that became longer than `max_words`.
  bool append_key(std::uint32_t n_bytes, std::size_t max_words,
                  std::vector<std::uint32_t>& key) const;
  /// Edges and places looked at since the beginning: what reading has cost. Depends on the
  /// automaton and the bytes alone.
  std::uint64_t n_looked_at() const noexcept { return n_looked_at_; }

 private:
  struct Frame {
    std::uint32_t parent = kOutermost;
    GrammarState state = 0;  // to go on at
    RepeatsLeft left;
    std::uint32_t depth = 1;  // calls that are open with this one
  };
  struct Level {
    std::size_t first_place = 0, n_frames = 0;
    bool may_end = false, left_unknown = false;
  };

  void begin_level();
  bool full() const noexcept;
  void visit(const Place& place);
  void follow(const Place& place);
  bool is_known(std::span<const Place> places, const Place& place);
  bool same_frames(std::uint32_t a, std::uint32_t b) const;
  bool pass(const GrammarEdge& edge, RepeatsLeft& left) const;
  std::uint32_t move_frame(std::uint32_t frame, std::vector<std::uint32_t>& moved,
                           std::vector<Frame>& kept) const;

  const GrammarAutomaton* automaton_;
  std::vector<Frame> frames_;
  std::vector<Place> places_;  // of all levels, those of the newest last
  std::vector<Level> levels_;
  std::vector<Place> pending_, seen_;  // of the push under way
  std::uint64_t n_looked_at_ = 0;
};

/// `left` as far as it matters to the next `n_bytes`.
RepeatsLeft clipped(const RepeatsLeft& left, std::uint32_t n_bytes) noexcept;

}  // namespace larder
