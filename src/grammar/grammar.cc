#include "grammar/grammar.h"

#include <algorithm>
#include <array>
#include <utility>

namespace larder {
namespace {

constexpr std::size_t kMemoryBytes = std::size_t{4} << 20;  // of masks, and again of insides
constexpr std::size_t kMaxKeyWords = 4096;                  // longer ones are not remembered
/// At one place, and again of what is undecided there. Inside of a string, where nearly every token
/// is open, a vocabulary takes some fifty a token.
constexpr std::uint64_t kMaxLooks = std::uint64_t{1} << 25;

/// Reads on while there are places.
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

std::size_t Grammar::n_bytes() const noexcept {
  return automaton_.states.size() * sizeof(GrammarAutomaton::State) +
         automaton_.edges.size() * sizeof(GrammarEdge);
}

template <class Value>
std::shared_ptr<const Value> Grammar::Memory<Value>::find(const Key& key) const {
  const auto found = known.find(key);
  return found == known.end() ? nullptr : found->second;
}

/// Forgets everything rather than growing: what is in use comes back soon.
template <class Value>
void Grammar::Memory<Value>::add(Key key, std::shared_ptr<const Value> value,
                                 std::size_t value_bytes) {
  value_bytes += key.size() * sizeof key[0] + 256;
  if (n_bytes + value_bytes > kMemoryBytes) {
    known.clear();
    n_bytes = 0;
  }
  if (known.emplace(std::move(key), std::move(value)).second) n_bytes += value_bytes;
}

std::shared_ptr<const TokenMask> Grammar::open_tokens(GrammarRun& run) const {
  Key key;
  if (!run.append_key(tokens_->longest(), kMaxKeyWords, key)) return find_open(run);
  {
    const std::lock_guard lock(mutex_);
    if (auto known = masks_.find(key)) return known;
  }
  auto mask = find_open(run);
  const std::lock_guard lock(mutex_);
  masks_.add(std::move(key), mask, tokens_->n_vocab() / 8);
  return mask;
}

std::shared_ptr<const TokenMask> Grammar::find_open(GrammarRun& run) const {
  auto mask = std::make_shared<TokenMask>(tokens_->n_vocab());
  std::vector<std::shared_ptr<const Inside>> insides;
  std::uint64_t n_looked_at = 0;
  for (const GrammarRun::Place& place : run.places()) {
    if (n_looked_at > kMaxLooks) break;  // the places beyond are given up
    insides.push_back(inside(place.state, clipped(place.left, tokens_->longest())));
    n_looked_at += insides.back()->n_looked_at;
    mask->add(insides.back()->open);
  }
  const std::uint64_t begin = run.n_looked_at();
  for (const auto& inside : insides) {
    if (run.n_looked_at() - begin <= kMaxLooks) read_undecided(*inside, run, *mask);
  }
  return mask;
}

void Grammar::read_undecided(const Inside& inside, GrammarRun& run, TokenMask& mask) const {
  const std::uint64_t begin = run.n_looked_at();
  for (const std::uint32_t index : inside.undecided) {
    const TokenBytes::Entry& entry = tokens_->entries()[index];
    if (mask.has(entry.id)) continue;
    read(run, tokens_->bytes(entry));
    const bool was_read = run.n_levels() == entry.n_bytes;
    if (was_read && (run.may_end() || !run.places().empty())) mask.add(entry.id);
    run.pop_to(0);
    if (run.n_looked_at() - begin > kMaxLooks) return;
  }
}

std::shared_ptr<const Grammar::Inside> Grammar::inside(GrammarState state,
                                                       const RepeatsLeft& left) const {
  Key key = {state, left.room, left.need};
  {
    const std::lock_guard lock(mutex_);
    if (auto known = insides_.find(key)) return known;
  }
  auto inside = std::make_shared<const Inside>(read_vocabulary(state, left));
  const std::size_t n_bytes =
      tokens_->n_vocab() / 8 + inside->undecided.capacity() * sizeof inside->undecided[0];
  const std::lock_guard lock(mutex_);
  insides_.add(std::move(key), inside, n_bytes);
  return inside;
}

Grammar::Inside Grammar::read_vocabulary(GrammarState state, const RepeatsLeft& left) const {
  Inside inside{TokenMask(tokens_->n_vocab()), {}};
  std::array<bool, 256> reads{};  // edges may overlap
  for (const GrammarEdge& edge : automaton_.edges_of(automaton_.states[state])) {
    if (edge.kind != GrammarEdge::Kind::byte) continue;
    std::fill(reads.begin() + edge.low, reads.begin() + edge.high + 1, true);
  }
  GrammarRun run(automaton_, state, left);
  for (unsigned byte = 0; byte < reads.size(); ++byte) {
    if (reads[byte]) read_entries(byte, run, inside);
  }
  inside.n_looked_at = run.n_looked_at();
  return inside;
}

/// Those that begin with the byte, in order, so that what begins alike is read once.
void Grammar::read_entries(unsigned first_byte, GrammarRun& run, Inside& inside) const {
  constexpr std::uint32_t kNever = UINT32_MAX;
  std::uint32_t left_at = kNever;    // bytes after which the call may have ended
  std::uint32_t failed_at = kNever;  // bytes of which the last could not be read
  const std::size_t begin = tokens_->first(first_byte), end = tokens_->first(first_byte + 1U);
  for (std::size_t i = begin; i < end; ++i) {
    const TokenBytes::Entry& entry = tokens_->entries()[i];
    // Single bytes come first. They suffice to write anything.
    if (entry.n_bytes > 1 && run.n_looked_at() > kMaxLooks) break;
    const std::uint32_t n_common = i == begin ? 0 : entry.n_common;
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
    if (ends_there && (!run.places().empty() || run.left_unknown())) {
      inside.open.add(entry.id);
    } else if (left_at < bytes.size()) {
      inside.undecided.push_back(static_cast<std::uint32_t>(i));
    }
  }
  run.pop_to(0);
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
  run_.commit();
}

}  // namespace larder
