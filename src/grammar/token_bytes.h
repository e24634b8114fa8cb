// A vocabulary in the order of its tokens' bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/block_id.h"

namespace larder {

/// A set of token ids.
class TokenMask {
 public:
  TokenMask() = default;
  explicit TokenMask(std::size_t n_vocab) : words_((n_vocab + 63) / 64) {}
  void add(TokenId id) { words_[index(id)] |= bit(id); }
  void add(const TokenMask& other) {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
  }
  bool has(TokenId id) const { return (words_[index(id)] & bit(id)) != 0; }
  bool empty() const;
  /// The lowest id. REQUIRES: !empty()
  TokenId first() const;
  /// Those of 64 * `word` and on, the lowest in the lowest bit.
  std::uint64_t word(std::size_t word) const { return words_[word]; }
  std::size_t n_words() const noexcept { return words_.size(); }

 private:
  static std::size_t index(TokenId id) { return static_cast<std::size_t>(id) / 64; }
  static std::uint64_t bit(TokenId id) {
    return std::uint64_t{1} << (static_cast<std::size_t>(id) % 64);
  }
  std::vector<std::uint64_t> words_;
};

/// The bytes that tokens add to a text, sorted, so that what begins alike is read once. Tokens
/// without bytes (control tokens) are left out. Immutable; thread-safe.
class TokenBytes {
 public:
  struct Entry {
    TokenId id = 0;
    std::uint32_t begin = 0, n_bytes = 0;
    std::uint32_t n_common = 0;  // first bytes that it has in common with the entry before
  };
  /// `pieces` [n_vocab]; `end_tokens`: those that end a text.
  TokenBytes(const std::vector<std::string>& pieces, std::vector<TokenId> end_tokens);

  std::size_t n_vocab() const noexcept { return n_vocab_; }
  const std::vector<Entry>& entries() const noexcept { return entries_; }
  std::string_view bytes(const Entry& entry) const {
    return std::string_view(text_).substr(entry.begin, entry.n_bytes);
  }
  /// Entries that begin with `byte`: from first(byte) up to first(byte + 1).
  std::size_t first(unsigned byte) const { return first_[byte]; }
  /// The bytes of a token; empty for one that is left out. REQUIRES: 0 <= id < n_vocab
  std::string_view bytes_of(TokenId id) const;
  std::uint32_t longest() const noexcept { return longest_; }
  const std::vector<TokenId>& end_tokens() const noexcept { return end_tokens_; }

 private:
  std::size_t n_vocab_;
  std::string text_;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> entry_of_;  // [n_vocab]; UINT32_MAX: left out
  std::array<std::size_t, 257> first_{};
  std::uint32_t longest_ = 0;
  std::vector<TokenId> end_tokens_;
};

}  // namespace larder
