// Byte-pair merging: from symbols to tokens, by a heap over a linked list in O(n log n).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"
#include "model/text/bpe_map.h"

namespace larder {

/// Text longer than this is cut before it is merged; symbols count in 32 bits.
inline constexpr std::size_t kMaxWordBytes = std::size_t{1} << 30;

struct Merge {
  std::uint32_t priority = 0;  // the smallest goes first; ties from the left
  TokenId id = kNoToken;       // what the pair becomes
};

/// The merges of a vocabulary by the ids of their sides. Immutable; thread-safe.
class MergeRules {
 public:
  /// Errors: corrupt, when a merge's side or result names no token of `index`.
  static Result<MergeRules> create(std::span<const std::string> merges, const TokenIndex& index);
  const Merge* find(TokenId left, TokenId right) const noexcept {
    return merges_.find(key(left, right));
  }

 private:
  explicit MergeRules(std::size_t n_merges) : merges_(n_merges) {}
  static std::uint64_t key(TokenId left, TokenId right) noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }
  BpeMap<Merge> merges_;
};

inline constexpr std::uint32_t kNoSymbol = ~std::uint32_t{0};

struct BpeSymbol {
  std::uint32_t begin = 0, n_bytes = 0;  // n_bytes 0: swallowed by its left neighbour
  std::uint32_t prev = kNoSymbol, next = kNoSymbol;
  TokenId id = kNoToken;  // kNoToken: no token (yet)
};

/// One word being merged; reused between words to save allocations.
class BpeWord {
 public:
  void clear() noexcept { symbols_.clear(); }
  void append(std::uint32_t begin, std::uint32_t n_bytes, TokenId id) {
    const auto at = static_cast<std::uint32_t>(symbols_.size());
    if (at != 0) symbols_[at - 1].next = at;
    symbols_.push_back({begin, n_bytes, at == 0 ? kNoSymbol : at - 1, kNoSymbol, id});
  }

  /// `find(left, right)`: the `Merge` of two neighbouring symbols by value, its id kNoToken if
  /// none.
  template <class Find>
  void merge(const Find& find) {
    heap_.clear();
    const auto offer = [&](std::uint32_t left) {
      const std::uint32_t right = symbols_[left].next;
      if (right == kNoSymbol) return false;
      const Merge merge = find(symbols_[left], symbols_[right]);
      if (merge.id == kNoToken) return false;
      heap_.push_back({std::uint64_t{merge.priority} << 32 | left,
                       symbols_[left].n_bytes + symbols_[right].n_bytes, merge.id});
      return true;
    };
    for (std::uint32_t i = 0; i < symbols_.size(); ++i) offer(i);
    std::make_heap(heap_.begin(), heap_.end(), later);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      const Candidate best = heap_.back();
      heap_.pop_back();
      const auto left = static_cast<std::uint32_t>(best.key);
      if (!join(left, best)) continue;
      const std::uint32_t before = symbols_[left].prev;
      if (before != kNoSymbol && offer(before)) std::push_heap(heap_.begin(), heap_.end(), later);
      if (offer(left)) std::push_heap(heap_.begin(), heap_.end(), later);
    }
  }

  template <class Fn>
  void for_each(Fn&& fn) const {
    if (symbols_.empty()) return;
    for (std::uint32_t i = 0; i != kNoSymbol; i = symbols_[i].next) fn(symbols_[i]);
  }

 private:
  struct Candidate {
    std::uint64_t key = 0;  // priority, then the left symbol
    std::uint32_t n_bytes = 0;
    TokenId id = kNoToken;
  };
  static bool later(const Candidate& a, const Candidate& b) noexcept { return a.key > b.key; }

  /// False for a stale candidate. Symbols only grow, so a pair is the one that was offered exactly
  /// when its left symbol lives and the length of both is what it was.
  bool join(std::uint32_t left, const Candidate& candidate) noexcept {
    BpeSymbol& a = symbols_[left];
    if (a.n_bytes == 0 || a.next == kNoSymbol) return false;
    BpeSymbol& b = symbols_[a.next];
    if (a.n_bytes + b.n_bytes != candidate.n_bytes) return false;
    a.n_bytes = candidate.n_bytes;
    a.id = candidate.id;
    a.next = b.next;
    b.n_bytes = 0;
    if (a.next != kNoSymbol) symbols_[a.next].prev = left;
    return true;
  }

  std::vector<BpeSymbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace larder
