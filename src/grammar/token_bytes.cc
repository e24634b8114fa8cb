#include "grammar/token_bytes.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

namespace larder {

bool TokenMask::empty() const {
  return std::all_of(words_.begin(), words_.end(), [](std::uint64_t w) { return w == 0; });
}

TokenId TokenMask::first() const {
  const auto word = std::find_if(words_.begin(), words_.end(), [](auto w) { return w != 0; });
  return static_cast<TokenId>(64 * (word - words_.begin()) + std::countr_zero(*word));
}

TokenBytes::TokenBytes(const std::vector<std::string>& pieces, std::vector<TokenId> end_tokens)
    : n_vocab_(pieces.size()),
      entry_of_(pieces.size(), UINT32_MAX),
      end_tokens_(std::move(end_tokens)) {
  std::vector<std::uint32_t> order(pieces.size());
  std::iota(order.begin(), order.end(), 0U);
  std::erase_if(order, [&](std::uint32_t id) {
    return pieces[id].empty() || std::find(end_tokens_.begin(), end_tokens_.end(),
                                           static_cast<TokenId>(id)) != end_tokens_.end();
  });
  // By bytes as numbers, which std::string compares by, too; then by id.
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    const int difference = pieces[a].compare(pieces[b]);
    return difference != 0 ? difference < 0 : a < b;
  });
  std::string_view before;
  for (const std::uint32_t id : order) {
    const std::string_view piece = pieces[id];
    const auto common = std::mismatch(before.begin(), before.end(), piece.begin(), piece.end());
    Entry entry;
    entry.id = static_cast<TokenId>(id);
    entry.begin = static_cast<std::uint32_t>(text_.size());
    entry.n_bytes = static_cast<std::uint32_t>(piece.size());
    entry.n_common = static_cast<std::uint32_t>(common.first - before.begin());
    text_ += piece;
    longest_ = std::max(longest_, entry.n_bytes);
    entry_of_[id] = static_cast<std::uint32_t>(entries_.size());
    ++first_[static_cast<unsigned char>(piece.front()) + 1U];
    entries_.push_back(entry);
    before = piece;
  }
  std::partial_sum(first_.begin(), first_.end(), first_.begin());
}

std::string_view TokenBytes::bytes_of(TokenId id) const {
  const std::uint32_t entry = entry_of_[static_cast<std::size_t>(id)];
  return entry == UINT32_MAX ? std::string_view() : bytes(entries_[entry]);
}

}  // namespace larder
