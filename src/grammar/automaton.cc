#include "grammar/automaton.h"

#include <algorithm>
#include <utility>

#include "base/fail.h"

namespace larder {

GrammarState GrammarBuilder::add(Repeats bounds) {
  if (states_.size() >= limits_.n_states) {
    full_ = true;
    return 0;
  }
  states_.push_back({{}, bounds, false});
  return static_cast<GrammarState>(states_.size() - 1);
}

void GrammarBuilder::end(GrammarState state) { states_[state].ends = true; }

void GrammarBuilder::edge(GrammarState from, const GrammarEdge& edge) {
  full_ = full_ || ++n_edges_ > limits_.n_edges;
  if (!full_) states_[from].edges.push_back(edge);
}

void GrammarBuilder::range(GrammarState from, char low, char high, GrammarState to) {
  GrammarEdge reading;
  reading.kind = GrammarEdge::Kind::byte;
  reading.low = static_cast<std::uint8_t>(low);
  reading.high = static_cast<std::uint8_t>(high);
  reading.target = to;
  edge(from, reading);
}

void GrammarBuilder::empty(GrammarState from, GrammarState to) {
  GrammarEdge silent;
  silent.target = to;
  edge(from, silent);
}

void GrammarBuilder::call(GrammarState from, GrammarState rule, GrammarState to) {
  GrammarEdge calling;
  calling.kind = GrammarEdge::Kind::call;
  calling.rule = rule;
  calling.target = to;
  edge(from, calling);
}

GrammarState GrammarBuilder::step(GrammarState from, char c) {
  const auto byte_value = static_cast<std::uint8_t>(c);
  for (const GrammarEdge& known : states_[from].edges) {
    if (known.kind == GrammarEdge::Kind::byte && known.low == byte_value &&
        known.high == byte_value && !known.counts && !known.leaves) {
      return known.target;
    }
  }
  const GrammarState next = add();
  byte(from, c, next);
  return next;
}

void GrammarBuilder::text(GrammarState from, std::string_view text, GrammarState to) {
  GrammarState at = from;
  for (const char c : text) at = step(at, c);
  empty(at, to);
}

/// `passes(edge, good)` says whether an edge helps: whether the states it needs are good. Each
/// state that becomes good is looked at once from every edge that needs it.
template <class Passes>
std::vector<bool> GrammarBuilder::states_that_reach_an_end(Passes passes) const {
  std::vector<std::vector<GrammarState>> needed_by(states_.size());
  std::vector<bool> good(states_.size());
  std::vector<GrammarState> fresh;
  for (std::size_t s = 0; s < states_.size(); ++s) {
    const auto state = static_cast<GrammarState>(s);
    for (const GrammarEdge& e : states_[s].edges) {
      needed_by[e.target].push_back(state);
      if (e.kind == GrammarEdge::Kind::call) needed_by[e.rule].push_back(state);
    }
    good[s] = states_[s].ends;
    if (good[s]) fresh.push_back(state);
  }
  while (!fresh.empty()) {
    const GrammarState reached = fresh.back();
    fresh.pop_back();
    for (const GrammarState s : needed_by[reached]) {
      if (good[s]) continue;
      const auto& edges = states_[s].edges;
      good[s] = std::any_of(edges.begin(), edges.end(),
                            [&](const GrammarEdge& e) { return passes(e, good); });
      if (good[s]) fresh.push_back(s);
    }
  }
  return good;
}

void GrammarBuilder::drop_dead_ends() {
  const auto leads_on = [](const GrammarEdge& e, const std::vector<bool>& good) {
    return good[e.target] && (e.kind != GrammarEdge::Kind::call || good[e.rule]);
  };
  const std::vector<bool> good = states_that_reach_an_end(leads_on);
  for (Draft& state : states_) {
    std::erase_if(state.edges, [&](const GrammarEdge& e) { return !leads_on(e, good); });
  }
}

/// A circle of edges that read nothing: its calls would never end.
bool GrammarBuilder::calls_itself_unread() const {
  const std::vector<bool> may_be_empty =
      states_that_reach_an_end([](const GrammarEdge& e, const std::vector<bool>& good) {
        if (e.kind == GrammarEdge::Kind::byte) return false;
        return good[e.target] && (e.kind != GrammarEdge::Kind::call || good[e.rule]);
      });
  const auto silent_ways = [&](GrammarState s) {
    std::vector<GrammarState> ways;
    for (const GrammarEdge& e : states_[s].edges) {
      if (e.kind == GrammarEdge::Kind::empty) ways.push_back(e.target);
      if (e.kind != GrammarEdge::Kind::call) continue;
      ways.push_back(e.rule);
      if (may_be_empty[e.rule]) ways.push_back(e.target);
    }
    return ways;
  };
  enum class Mark : std::uint8_t { fresh, open, done };
  std::vector<Mark> marks(states_.size(), Mark::fresh);
  std::vector<std::pair<GrammarState, std::vector<GrammarState>>> path;
  for (std::size_t s = 0; s < states_.size(); ++s) {
    if (marks[s] != Mark::fresh) continue;
    marks[s] = Mark::open;
    path.emplace_back(static_cast<GrammarState>(s), silent_ways(static_cast<GrammarState>(s)));
    while (!path.empty()) {
      auto& [state, ways] = path.back();
      if (ways.empty()) {
        marks[state] = Mark::done;
        path.pop_back();
        continue;
      }
      const GrammarState next = ways.back();
      ways.pop_back();
      if (marks[next] == Mark::open) return true;
      if (marks[next] == Mark::done) continue;
      marks[next] = Mark::open;
      path.emplace_back(next, silent_ways(next));
    }
  }
  return false;
}

Result<GrammarAutomaton> GrammarBuilder::finish(GrammarState start) && {
  if (full_) {
    return fail(Errc::invalid_argument, "it needs more than {} states, or {} ways between them",
                limits_.n_states, limits_.n_edges);
  }
  drop_dead_ends();
  if (states_[start].edges.empty() && !states_[start].ends) {
    return fail(Errc::invalid_argument, "no finite text satisfies it");
  }
  if (calls_itself_unread()) {
    return fail(Errc::invalid_argument, "something in it is defined by nothing but itself");
  }
  GrammarAutomaton automaton;
  automaton.start = start;
  automaton.states.reserve(states_.size());
  for (const Draft& draft : states_) {
    GrammarAutomaton::State state;
    state.first_edge = static_cast<std::uint32_t>(automaton.edges.size());
    state.n_edges = static_cast<std::uint32_t>(draft.edges.size());
    state.bounds = draft.bounds;
    state.ends = draft.ends;
    state.plain = !draft.ends &&
                  std::all_of(draft.edges.begin(), draft.edges.end(), [](const GrammarEdge& e) {
                    return e.kind == GrammarEdge::Kind::byte;
                  });
    automaton.states.push_back(state);
    automaton.edges.insert(automaton.edges.end(), draft.edges.begin(), draft.edges.end());
  }
  return automaton;
}

}  // namespace larder
