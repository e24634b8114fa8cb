// What a text must look like, and the tokens that keep it so.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/grammar_run.h"
#include "grammar/token_bytes.h"
#include "larder/result.h"

namespace larder {

/// An automaton over a vocabulary. The tokens that are open at a place are found by reading the
/// vocabulary in order, once per state: what such a token does inside of the call under way does
/// not depend on what called, so only tokens that end the call are read again per stack (the split
/// into context-independent and context-dependent tokens is that of XGrammar, Dong et al. 2024,
/// arXiv:2411.15100). Both are remembered, up to a bound. Schemas come from strangers, so the work
/// for one place is bounded, too: beyond it tokens of several bytes stay closed, which is slower to
/// write and never wrong. Where the bound lies depends on the text alone, not on what is
/// remembered. Thread-safe.
class Grammar {
 public:
  Grammar(GrammarAutomaton automaton, std::shared_ptr<const TokenBytes> tokens);

  /// The tokens after which the text can still be completed; the end tokens not among them. Empty
  /// at the end of the text, where the vocabulary lacks a byte that is needed, and where `run` has
  /// given up what could have been completed.
  std::shared_ptr<const TokenMask> open_tokens(GrammarRun& run) const;
  const GrammarAutomaton& automaton() const noexcept { return automaton_; }
  const TokenBytes& tokens() const noexcept { return *tokens_; }
  /// What the automaton takes.
  std::size_t n_bytes() const noexcept;

 private:
  using Key = std::vector<std::uint32_t>;
  struct KeyHash {
    std::size_t operator()(const Key& key) const noexcept;
  };
  struct Inside {  // of one place, whatever called
    TokenMask open;
    std::vector<std::uint32_t> undecided;  // entries that go on behind the end of the call
    std::uint64_t n_looked_at = 0;         // what finding out has cost
  };
  template <class Value>
  struct Memory {
    std::unordered_map<Key, std::shared_ptr<const Value>, KeyHash> known;
    std::size_t n_bytes = 0;
    std::shared_ptr<const Value> find(const Key& key) const;
    void add(Key key, std::shared_ptr<const Value> value, std::size_t value_bytes);
  };
  std::shared_ptr<const Inside> inside(GrammarState state, const RepeatsLeft& left) const;
  Inside read_vocabulary(GrammarState state, const RepeatsLeft& left) const;
  void read_entries(unsigned first_byte, GrammarRun& run, Inside& inside) const;
  void read_undecided(const Inside& inside, GrammarRun& run, TokenMask& mask) const;
  std::shared_ptr<const TokenMask> find_open(GrammarRun& run) const;

  const GrammarAutomaton automaton_;
  const std::shared_ptr<const TokenBytes> tokens_;  // owners: all grammars of an engine
  mutable std::mutex mutex_;
  mutable Memory<TokenMask> masks_;
  mutable Memory<Inside> insides_;
};

/// The grammar and the text of one sequence. Not thread-safe.
class GrammarMatcher {
 public:
  explicit GrammarMatcher(std::shared_ptr<const Grammar> grammar);

  /// The tokens that may come next, end tokens included where the text may end. Empty where the
  /// text cannot go on: Grammar::open_tokens.
  const TokenMask& next_tokens(bool may_end);
  /// REQUIRES: a token of the last next_tokens
  void accept(TokenId token);
  /// Whether the text is complete and nothing can follow.
  bool is_over() const { return run_.may_end() && run_.places().empty(); }

 private:
  std::shared_ptr<const Grammar> grammar_;  // owners: those who use it
  GrammarRun run_;
  std::shared_ptr<const TokenMask> open_;  // owners: this and the grammar's memory
  TokenMask with_ends_;
};

}  // namespace larder
