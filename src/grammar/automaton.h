// A language of bytes as states that read, call and return.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "larder/result.h"

namespace larder {

using GrammarState = std::uint32_t;

/// How often something is repeated.
struct Repeats {
  static constexpr std::uint32_t kNoLimit = UINT32_MAX;
  std::uint32_t least = 0, most = kNoLimit;
  bool operator==(const Repeats&) const = default;
};

/// One way on from a state. `target` is the state after it; of a call, where it goes on once the
/// called rule has ended.
struct GrammarEdge {
  enum class Kind : std::uint8_t { byte, empty, call };
  Kind kind = Kind::empty;
  std::uint8_t low = 0, high = 0;  // of a byte: both included
  bool begins = false;             // counting starts, with the bounds of the target
  bool counts = false;             // one repetition more; closed when there were enough
  bool leaves = false;             // open only after the least number of repetitions
  GrammarState target = 0;
  GrammarState rule = 0;  // of a call: its first state
};

/// A pushdown automaton. Every state can reach an end, so a text that has begun can be completed.
/// A frame (one call) counts one thing at a time. Immutable once built.
struct GrammarAutomaton {
  struct State {
    std::uint32_t first_edge = 0, n_edges = 0;
    Repeats bounds;      // where an edge `begins`
    bool ends = false;   // the rule may end here; of the outermost one: the text
    bool plain = false;  // has byte edges and nothing else
  };
  std::vector<State> states;
  std::vector<GrammarEdge> edges;
  GrammarState start = 0;

  std::span<const GrammarEdge> edges_of(const State& state) const {
    return std::span(edges).subspan(state.first_edge, state.n_edges);
  }
};

/// Builds one, state by state. Stops growing at its limits; `finish` tells.
class GrammarBuilder {
 public:
  struct Limits {
    std::size_t n_states, n_edges;
  };
  explicit GrammarBuilder(const Limits& limits) : limits_(limits) {}
  /// A limit is reached: what is built from here on is thrown away.
  bool full() const noexcept { return full_; }

  GrammarState add(Repeats bounds = {});
  void end(GrammarState state);
  void edge(GrammarState from, const GrammarEdge& edge);
  void byte(GrammarState from, char c, GrammarState to) { range(from, c, c, to); }
  void range(GrammarState from, char low, char high, GrammarState to);
  void empty(GrammarState from, GrammarState to);
  void call(GrammarState from, GrammarState rule, GrammarState to);
  /// Reads `text`, then is at `to`. Texts of one state share what they have in common.
  void text(GrammarState from, std::string_view text, GrammarState to);
  /// The state behind one byte, which no other edge of `from` reads.
  GrammarState step(GrammarState from, char c);

  /// Without the states that lead nowhere. Errors: invalid_argument when it was full, when nothing
  /// can be completed, or when a rule calls itself before it reads a byte.
  Result<GrammarAutomaton> finish(GrammarState start) &&;

 private:
  struct Draft {
    std::vector<GrammarEdge> edges;
    Repeats bounds;
    bool ends = false;
  };
  template <class Passes>
  std::vector<bool> states_that_reach_an_end(Passes passes) const;
  bool calls_itself_unread() const;
  void drop_dead_ends();

  const Limits limits_;
  std::size_t n_edges_ = 0;
  bool full_ = false;
  std::vector<Draft> states_;
};

}  // namespace larder
