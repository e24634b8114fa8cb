// Words that were merged before within one text.
#pragma once

#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/text/tokenizer_data.h"

namespace larder {

/// Remembers where in the output a word's tokens are. Lives for one text and one output vector;
/// not thread-safe.
class BpeCache {
 public:
  /// Small texts repeat too little to pay for a table.
  explicit BpeCache(std::string_view text) : active_(text.size() >= 512) {}

  /// Appends the tokens of `word` again, or false.
  bool append(std::string_view word, std::vector<TokenId>& out) const {
    if (!active_ || word.size() > kMaxBytes) return false;
    const auto it = places_.find(word);
    if (it == places_.end()) return false;
    for (std::size_t i = 0; i < it->second.n_ids; ++i) {
      const TokenId id = out[it->second.begin + i];  // a copy: push_back may move the vector
      out.push_back(id);
    }
    return true;
  }
  /// The tokens of `word` are `out[begin..]`.
  void remember(std::string_view word, std::size_t begin, const std::vector<TokenId>& out) {
    if (!active_ || word.size() > kMaxBytes || places_.size() >= kMaxWords) return;
    places_.emplace(word, Place{begin, out.size() - begin});
  }

 private:
  static constexpr std::size_t kMaxBytes = 64, kMaxWords = std::size_t{1} << 17;
  struct Place {
    std::size_t begin, n_ids;
  };
  bool active_;
  std::unordered_map<std::string_view, Place> places_;
};

}  // namespace larder
