#include "model/text/tokenizer_added.h"

#include <numeric>

#include "model/text/unicode.h"

namespace larder {
namespace {

std::size_t total_bytes(std::span<const AddedToken> added) noexcept {
  return std::accumulate(added.begin(), added.end(), std::size_t{0},
                         [](std::size_t sum, const AddedToken& t) { return sum + t.text.size(); });
}

bool is_special(TokenType type) noexcept {
  return type == TokenType::control || type == TokenType::unknown;
}

std::size_t spaces_before(std::string_view text, std::size_t end, std::size_t limit) noexcept {
  while (end > limit) {
    std::size_t begin = end - 1;
    while (begin > limit && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    const Utf8Step step = next_character(text.substr(begin, end - begin));
    if (step.status != Utf8Status::complete || !is_white_space(step.code_point)) break;
    end = begin;
  }
  return end;
}

std::size_t spaces_after(std::string_view text, std::size_t begin) noexcept {
  while (begin < text.size()) {
    const Utf8Step step = next_character(text.substr(begin));
    if (step.status != Utf8Status::complete || !is_white_space(step.code_point)) break;
    begin += step.n_bytes;
  }
  return begin;
}

}  // namespace

AddedTokens::AddedTokens(std::span<const AddedToken> added, std::span<const TokenType> types)
    : tokens_(added.begin(), added.end()), nodes_(1), children_(total_bytes(added)) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const std::string& text = tokens_[i].text;
    if (text.empty()) continue;
    std::uint32_t node = 0;
    for (const char c : text) {
      const std::uint64_t key = std::uint64_t{node} << 8 | static_cast<unsigned char>(c);
      if (const std::uint32_t* child = children_.find(key)) {
        node = *child;
        continue;
      }
      node = static_cast<std::uint32_t>(nodes_.size());
      children_.insert(key, node);
      nodes_.emplace_back();
    }
    begins_[static_cast<unsigned char>(text[0])] = true;
    const TokenType type = types[static_cast<std::size_t>(tokens_[i].id)];
    std::int32_t& end = is_special(type) ? nodes_[node].special : nodes_[node].normal;
    if (end < 0) end = static_cast<std::int32_t>(i);
  }
}

const AddedToken* AddedTokens::longest_at(std::string_view text, std::size_t at,
                                          bool special) const noexcept {
  std::int32_t best = -1;
  std::uint32_t node = 0;
  for (; at < text.size(); ++at) {
    const std::uint32_t* child =
        children_.find(std::uint64_t{node} << 8 | static_cast<unsigned char>(text[at]));
    if (child == nullptr) break;
    node = *child;
    if (nodes_[node].normal >= 0) best = nodes_[node].normal;
    if (special && nodes_[node].special >= 0) best = nodes_[node].special;
  }
  return best < 0 ? nullptr : &tokens_[static_cast<std::size_t>(best)];
}

std::optional<AddedTokens::Match> AddedTokens::find(std::string_view text, std::size_t from,
                                                    bool special) const {
  for (std::size_t at = from; at < text.size(); ++at) {
    if (!begins_[static_cast<unsigned char>(text[at])]) continue;
    const AddedToken* token = longest_at(text, at, special);
    if (token == nullptr) continue;
    Match match{at, at + token->text.size(), token->id};
    if (token->lstrip) match.begin = spaces_before(text, match.begin, from);
    if (token->rstrip) match.end = spaces_after(text, match.end);
    return match;
  }
  return std::nullopt;
}

}  // namespace larder
