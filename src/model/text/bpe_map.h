// Hash tables of a vocabulary: built once, then only read.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/text/tokenizer_data.h"

namespace larder {

/// Open addressing with linear probing over 64-bit keys. Thread-safe once filled.
template <class Value>
class BpeMap {
 public:
  explicit BpeMap(std::size_t n_expected)
      : slots_(std::bit_ceil(2 * n_expected + 2)), mask_(slots_.size() - 1) {}

  /// Keeps the first value of a key. REQUIRES: fewer insertions than `n_expected`, key != ~0.
  void insert(std::uint64_t key, Value value) {
    std::size_t i = mix(key) & mask_;
    while (slots_[i].key != kFree && slots_[i].key != key) i = (i + 1) & mask_;
    if (slots_[i].key == kFree) slots_[i] = {key, value};
  }

  const Value* find(std::uint64_t key) const noexcept {
    for (std::size_t i = mix(key) & mask_; slots_[i].key != kFree; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return &slots_[i].value;
    }
    return nullptr;
  }

  static std::uint64_t mix(std::uint64_t x) noexcept {  // the finaliser of splitmix64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
  }

 private:
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = kFree;
    Value value{};
  };
  std::vector<Slot> slots_;
  std::size_t mask_;
};

/// Piece -> id over strings owned by someone else. Of equal pieces the first one counts.
class TokenIndex {
 public:
  /// `takes(id)`: whether the piece may be found. The strings must outlive the index.
  template <class Takes>
  TokenIndex(std::span<const std::string> tokens, Takes&& takes)
      : tokens_(tokens), slots_(std::bit_ceil(2 * tokens.size() + 2)), mask_(slots_.size() - 1) {
    for (std::size_t id = 0; id < tokens.size(); ++id) {
      if (takes(static_cast<TokenId>(id))) insert(static_cast<TokenId>(id));
    }
  }

  TokenId find(std::string_view piece) const noexcept {
    if (piece.size() > longest_) return kNoToken;
    return slots_[place(piece, hash(piece))].id;
  }

 private:
  struct Slot {
    std::uint32_t hash = 0;
    TokenId id = kNoToken;
  };

  static std::uint64_t hash(std::string_view piece) noexcept {
    return std::hash<std::string_view>{}(piece);
  }
  /// Where the piece is, or the free slot where it would be.
  std::size_t place(std::string_view piece, std::uint64_t full) const noexcept {
    const auto low = static_cast<std::uint32_t>(full >> 32);
    std::size_t i = full & mask_;
    while (slots_[i].id != kNoToken &&
           (slots_[i].hash != low || tokens_[static_cast<std::size_t>(slots_[i].id)] != piece)) {
      i = (i + 1) & mask_;
    }
    return i;
  }
  void insert(TokenId id) {
    const std::string& piece = tokens_[static_cast<std::size_t>(id)];
    const std::uint64_t full = hash(piece);
    Slot& slot = slots_[place(piece, full)];
    if (slot.id == kNoToken) slot = {static_cast<std::uint32_t>(full >> 32), id};
    longest_ = std::max(longest_, piece.size());
  }

  std::span<const std::string> tokens_;
  std::vector<Slot> slots_;
  std::size_t mask_;
  std::size_t longest_ = 0;
};

}  // namespace larder
