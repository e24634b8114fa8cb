#include "grammar/grammar_run.h"

#include <algorithm>
#include <utility>

namespace larder {

GrammarRun::GrammarRun(const GrammarAutomaton& automaton) : automaton_(&automaton) {
  begin_level();
  follow({automaton.start, {}, kOutermost});
}

GrammarRun::GrammarRun(const GrammarAutomaton& automaton, GrammarState state, RepeatsLeft left)
    : automaton_(&automaton) {
  begin_level();
  places_.push_back({state, left, kUnknown});
}

void GrammarRun::begin_level() { levels_.push_back({places_.size(), frames_.size()}); }

std::span<const GrammarRun::Place> GrammarRun::places() const noexcept {
  return std::span(places_).subspan(levels_.back().first_place);
}

void GrammarRun::push(std::uint8_t byte) {
  const std::size_t begin = levels_.back().first_place, end = places_.size();
  begin_level();
  seen_.clear();
  for (std::size_t i = begin; i < end; ++i) {
    const Place from = places_[i];  // a copy: following adds places
    const auto edges = automaton_->edges_of(automaton_->states[from.state]);
    n_looked_at_ += edges.size();
    for (const GrammarEdge& edge : edges) {
      if (edge.kind != GrammarEdge::Kind::byte || byte < edge.low || byte > edge.high) continue;
      Place to{edge.target, from.left, from.frame};
      if (pass(edge, to.left)) follow(to);
    }
  }
}

/// Whether the edge is open, and what is left behind it.
bool GrammarRun::pass(const GrammarEdge& edge, RepeatsLeft& left) const {
  if (edge.leaves && left.need > 0) return false;
  if (edge.counts) {
    if (left.room == 0) return false;
    if (left.room != Repeats::kNoLimit) --left.room;
    if (left.need > 0) --left.need;
  }
  if (edge.begins) {
    const Repeats& bounds = automaton_->states[edge.target].bounds;
    left = {bounds.most, bounds.least};
  }
  return true;
}

bool GrammarRun::full() const noexcept {
  return places().size() >= kMaxPlaces || seen_.size() >= 8 * kMaxPlaces;
}

/// Adds the place and all that can be reached from it without reading.
void GrammarRun::follow(const Place& place) {
  if (automaton_->states[place.state].plain) {
    if (!full() && !is_known(places(), place)) places_.push_back(place);
    return;
  }
  pending_.push_back(place);
  while (!pending_.empty()) {
    const Place next = pending_.back();
    pending_.pop_back();
    visit(next);
  }
}

void GrammarRun::visit(const Place& place) {
  const GrammarAutomaton::State& state = automaton_->states[place.state];
  if (full() || is_known(state.plain ? places() : std::span<const Place>(seen_), place)) return;
  const auto edges = automaton_->edges_of(state);
  const bool reads = std::any_of(edges.begin(), edges.end(), [](const GrammarEdge& e) {
    return e.kind == GrammarEdge::Kind::byte;
  });
  n_looked_at_ += edges.size();
  if (reads) places_.push_back(place);
  if (state.plain) return;
  seen_.push_back(place);
  if (state.ends) {
    if (place.frame == kOutermost) {
      levels_.back().may_end = true;
    } else if (place.frame == kUnknown) {
      levels_.back().left_unknown = true;
    } else {
      const Frame& frame = frames_[place.frame];
      pending_.push_back({frame.state, frame.left, frame.parent});
    }
  }
  for (const GrammarEdge& edge : edges) {
    if (edge.kind == GrammarEdge::Kind::byte) continue;
    Place to{edge.target, place.left, place.frame};
    if (!pass(edge, to.left)) continue;
    if (edge.kind == GrammarEdge::Kind::call) {
      const std::uint32_t depth = place.frame < kUnknown ? frames_[place.frame].depth + 1 : 1;
      if (depth > kMaxCalls) continue;
      frames_.push_back({place.frame, edge.target, to.left, depth});
      to = {edge.rule, {}, static_cast<std::uint32_t>(frames_.size() - 1)};
    }
    pending_.push_back(to);
  }
}

bool GrammarRun::is_known(std::span<const Place> places, const Place& place) {
  n_looked_at_ += places.size();
  return std::any_of(places.begin(), places.end(), [&](const Place& known) {
    return known.state == place.state && known.left == place.left &&
           same_frames(known.frame, place.frame);
  });
}

bool GrammarRun::same_frames(std::uint32_t a, std::uint32_t b) const {
  while (a != b) {
    if (a >= kUnknown || b >= kUnknown) return false;
    const Frame &x = frames_[a], &y = frames_[b];
    if (x.state != y.state || !(x.left == y.left)) return false;
    a = x.parent;
    b = y.parent;
  }
  return true;
}

void GrammarRun::pop_to(std::size_t n_levels) {
  if (n_levels >= this->n_levels()) return;
  const Level& dropped = levels_[n_levels + 1];
  places_.resize(dropped.first_place);
  frames_.resize(dropped.n_frames);
  levels_.resize(n_levels + 1);
}

void GrammarRun::commit() {
  const auto here = places();
  std::vector<Place> places(here.begin(), here.end());
  std::vector<std::uint32_t> moved(frames_.size(), kUnknown);
  std::vector<Frame> kept;
  for (Place& place : places) place.frame = move_frame(place.frame, moved, kept);
  places_ = std::move(places);
  frames_ = std::move(kept);
  Level level = levels_.back();
  level.first_place = level.n_frames = 0;
  levels_.assign(1, level);
}

/// Copies a frame and those below it, each once. Returns the copy's index.
std::uint32_t GrammarRun::move_frame(std::uint32_t frame, std::vector<std::uint32_t>& moved,
                                     std::vector<Frame>& kept) const {
  std::vector<std::uint32_t> path;
  while (frame < kUnknown && moved[frame] == kUnknown) {
    path.push_back(frame);
    frame = frames_[frame].parent;
  }
  std::uint32_t parent = frame < kUnknown ? moved[frame] : frame;
  for (; !path.empty(); path.pop_back()) {
    Frame copy = frames_[path.back()];
    copy.parent = parent;
    kept.push_back(copy);
    parent = moved[path.back()] = static_cast<std::uint32_t>(kept.size() - 1);
  }
  return parent;
}

RepeatsLeft clipped(const RepeatsLeft& left, std::uint32_t n_bytes) noexcept {
  // One more than the bytes: whether anything is left behind them matters, too.
  const std::uint32_t most = n_bytes + 1;
  return {left.room > most ? Repeats::kNoLimit : left.room, std::min(left.need, most)};
}

bool GrammarRun::append_key(std::uint32_t n_bytes, std::size_t max_words,
                            std::vector<std::uint32_t>& key) const {
  key.push_back(may_end() ? 1 : 0);
  for (const Place& place : places()) {
    RepeatsLeft left = clipped(place.left, n_bytes);
    key.insert(key.end(), {place.state, left.room, left.need});
    for (std::uint32_t f = place.frame; f < kUnknown; f = frames_[f].parent) {
      if (key.size() > max_words) return false;
      left = clipped(frames_[f].left, n_bytes);
      key.insert(key.end(), {frames_[f].state, left.room, left.need});
    }
    key.push_back(kOutermost);
  }
  return key.size() <= max_words;
}

}  // namespace larder
