#include "grammar/grammar.h"

#include <utility>

#include "base/check.h"

namespace larder {
namespace {

constexpr std::size_t kMemoryBytes = std::size_t{4} << 20;  // of masks, and again of insides

/// Forgets everything rather than growing: what is in use comes back soon.
template <class Map, class Value>
void remember(Map& map, std::vector<std::uint32_t> key, Value value, std::size_t n_bytes) {
  if ((map.size() + 1) * n_bytes > kMemoryBytes) map.clear();
  map.emplace(std::move(key), std::move(value));
}

/// Reads what `entry` has beyond `n_read` bytes, while there are places.
void read(GrammarRun& run, std::string_view bytes) {
  while (run.n_levels() < bytes.size() && !run.places().empty()) {
    run.push(static_cast<std::uint8_t>(bytes[run.n_levels()]));
  }
}

}  // namespace

std::size_t Grammar::KeyHash::operator()(const Key& key) const noexcept {
  std::uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a over words, with a final mix
  for (const std::uint32_t word : key) hash = (hash ^ word) * 0x100000001b3ULL;
  return static_cast<std::size_t>(hash ^ (hash >> 32));
}

Grammar::Grammar(GrammarAutomaton automaton, std::shared_ptr<const TokenBytes> tokens)
    : automaton_(std::move(automaton)), tokens_(std::move(tokens)) {}

std::shared_ptr<const TokenMask> Grammar::open_tokens(GrammarRun& run) const {
  Key key;
  run.append_key(tokens_->longest(), key);
  {
    const std::lock_guard lock(mutex_);
    const auto known = masks_.find(key);
    if (known != masks_.end()) return known->second;
  }
  auto mask = find_open(run);
  const std::lock_guard lock(mutex_);
  remember(masks_, std::move(key), mask, tokens_->n_vocab() / 8 + 256);
  return mask;
}

std::shared_ptr<const TokenMask> Grammar::find_open(GrammarRun& run) const {
  auto mask = std::make_shared<TokenMask>(tokens_->n_vocab());
  std::vector<std::shared_ptr<const Inside>> insides;
  for (const GrammarRun::Place& place : run.places()) {
    insides.push_back(inside(place.state, clipped(place.left, tokens_->longest())));
    mask->add(insides.back()->open);
  }
  for (const auto& inside : insides) {
    for (const std::uint32_t index : inside->undecided) {
      const TokenBytes::Entry& entry = tokens_->entries()[index];
      if (mask->has(entry.id)) continue;
      read(run, tokens_->bytes(entry));
      const bool was_read = run.n_levels() == entry.n_bytes;
      if (was_read && (run.may_end() || !run.places().empty())) mask->add(entry.id);
      run.pop_to(0);
    }
  }
  return mask;
}

std::shared_ptr<const Grammar::Inside> Grammar::inside(GrammarState state,
                                                       const RepeatsLeft& left) const {
  Key key = {state, left.room, left.need};
  {
    const std::lock_guard lock(mutex_);
    const auto known = insides_.find(key);
    if (known != insides_.end()) return known->second;
  }
  auto inside = std::make_shared<const Inside>(read_vocabulary(state, left));
  const std::lock_guard lock(mutex_);
  remember(insides_, std::move(key), inside, tokens_->n_vocab() / 4 + 256);
  return inside;
}

Grammar::Inside Grammar::read_vocabulary(GrammarState state, const RepeatsLeft& left) const {
  constexpr std::uint32_t kNever = UINT32_MAX;
  Inside inside{TokenMask(tokens_->n_vocab()), {}};
  GrammarRun run(automaton_, state, left);
  for (const GrammarEdge& edge : automaton_.edges_of(automaton_.states[state])) {
    if (edge.kind != GrammarEdge::Kind::byte) continue;
    std::uint32_t left_at = kNever;    // bytes after which the call may have ended
    std::uint32_t failed_at = kNever;  // bytes of which the last could not be read
    const std::size_t end = tokens_->first(edge.high + 1U);
    for (std::size_t i = tokens_->first(edge.low); i < end; ++i) {
      const TokenBytes::Entry& entry = tokens_->entries()[i];
      const std::uint32_t n_common = i == tokens_->first(edge.low) ? 0 : entry.n_common;
      if (n_common >= failed_at) {  // so does what begins alike
        if (left_at != kNever) inside.undecided.push_back(static_cast<std::uint32_t>(i));
        continue;
      }
      failed_at = kNever;
      if (n_common < left_at) left_at = kNever;
      run.pop_to(n_common);
      const std::string_view bytes = tokens_->bytes(entry);
      while (run.n_levels() < bytes.size() && failed_at == kNever) {
        run.push(static_cast<std::uint8_t>(bytes[run.n_levels()]));
        const auto n_read = static_cast<std::uint32_t>(run.n_levels());
        if (run.left_unknown() && left_at == kNever) left_at = n_read;
        if (run.places().empty()) failed_at = n_read;
      }
      const bool ends_there = run.n_levels() == bytes.size();
      const bool is_open = ends_there && (!run.places().empty() || run.left_unknown());
      if (is_open) {
        inside.open.add(entry.id);
      } else if (left_at < bytes.size()) {
        inside.undecided.push_back(static_cast<std::uint32_t>(i));
      }
    }
    run.pop_to(0);
  }
  return inside;
}

GrammarMatcher::GrammarMatcher(std::shared_ptr<const Grammar> grammar)
    : grammar_(std::move(grammar)), run_(grammar_->automaton()) {}

const TokenMask& GrammarMatcher::next_tokens(bool may_end) {
  open_ = grammar_->open_tokens(run_);
  if (!may_end || !run_.may_end()) return *open_;
  with_ends_ = *open_;
  for (const TokenId id : grammar_->tokens().end_tokens()) with_ends_.add(id);
  return with_ends_;
}

void GrammarMatcher::accept(TokenId token) {
  for (const char c : grammar_->tokens().bytes_of(token)) {
    run_.push(static_cast<std::uint8_t>(c));
  }
  LARDER_DCHECK(run_.may_end() || !run_.places().empty());
  run_.commit();
}

}  // namespace larder
