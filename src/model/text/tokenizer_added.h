// Finding the tokens that are cut out of a text before anything else happens to it.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "model/text/bpe_map.h"
#include "model/text/tokenizer_data.h"

namespace larder {

/// A trie over added tokens. Immutable; thread-safe.
class AddedTokens {
 public:
  /// `types`: of the whole vocabulary; says which tokens are special. REQUIRES: ids in range.
  AddedTokens(std::span<const AddedToken> added, std::span<const TokenType> types);

  /// Calls `on_text(piece)` and `on_token(id)` for the parts of `text` in order. Leftmost match
  /// first, the longest of those; `special` false leaves control and unknown tokens as text.
  template <class OnText, class OnToken>
  void for_each_part(std::string_view text, bool special, OnText&& on_text,
                     OnToken&& on_token) const {
    std::size_t done = 0;
    while (const std::optional<Match> match = find(text, done, special)) {
      if (match->begin > done) on_text(text.substr(done, match->begin - done));
      on_token(match->id);
      done = match->end;
    }
    if (done < text.size()) on_text(text.substr(done));
  }

 private:
  struct Match {
    std::size_t begin = 0, end = 0;
    TokenId id = kNoToken;
  };
  struct Node {
    std::int32_t normal = -1, special = -1;  // which of tokens_ ends here; -1: none
  };

  std::optional<Match> find(std::string_view text, std::size_t from, bool special) const;
  const AddedToken* longest_at(std::string_view text, std::size_t at, bool special) const noexcept;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;         // [0]: the root
  BpeMap<std::uint32_t> children_;  // node << 8 | byte -> node
  std::array<bool, 256> begins_{};  // whether some token begins with the byte
};

}  // namespace larder
