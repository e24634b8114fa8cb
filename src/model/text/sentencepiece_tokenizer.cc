// SentencePiece's BPE: spaces are U+2581, characters merge by the score of what they become, or by
// ranked merges where the file has them; unknown characters fall back to bytes.
#include <algorithm>
#include <array>
#include <bitset>
#include <numeric>

#include "base/fail.h"
#include "model/text/bpe.h"
#include "model/text/bpe_cache.h"
#include "model/text/tokenizer_segments.h"
#include "model/text/unicode.h"

namespace larder {
namespace {

/// "<0x0A>" -> 10; -1 for other pieces.
int byte_of_piece(std::string_view piece) noexcept {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  int value = 0;
  for (const char c : piece.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  std::size_t done = 0;
  for (std::size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, done)) {
    out.append(text, done, at - done).append(to);
    done = at + from.size();
  }
  return out.append(text, done, std::string_view::npos);
}

std::string trim_spaces(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  }
  if (out.ends_with(' ')) out.pop_back();
  return out;
}

/// Pairs of neighbouring characters that occur within some token. Where a pair occurs in none, no
/// merge can ever reach across it, so a text falls apart into short words without changing the
/// result. A hash without the keys: a collision costs a cut, never a wrong one.
class InnerPairs {
 public:
  void add(std::string_view token) {
    for (std::size_t i = 0; i < token.size();) {
      const std::size_t next = i + character_bytes(token[i]);
      if (next >= token.size()) break;
      pairs_.set(slot(token.substr(i, next - i), token.substr(next, character_bytes(token[next]))));
      i = next;
    }
  }
  bool has(std::string_view left, std::string_view right) const noexcept {
    return pairs_.test(slot(left, right));
  }

 private:
  static std::size_t slot(std::string_view left, std::string_view right) noexcept {
    std::uint64_t key = 0;
    for (const char c : left) key = key << 8 | static_cast<unsigned char>(c);
    for (const char c : right) key = key << 8 | static_cast<unsigned char>(c);
    return BpeMap<char>::mix(key) % kSlots;
  }
  static constexpr std::size_t kSlots = std::size_t{1} << 21;
  std::bitset<kSlots> pairs_;  // 256 KiB
};

/// What merging needs to know of a vocabulary.
struct PieceRules {
  TokenIndex index;                       // pieces that text can become
  std::vector<std::uint32_t> priority{};  // [n_vocab] by score, or empty: `merges` decide
  std::optional<MergeRules> merges{};
  std::unique_ptr<InnerPairs> inner_pairs;
  std::array<TokenId, 256> byte_ids{};  // kNoToken: no such piece
};

/// Dense ranks of the scores, best 0; equal scores share one.
std::vector<std::uint32_t> rank_by_score(const std::vector<float>& scores) {
  std::vector<std::uint32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return scores[a] > scores[b]; });
  std::vector<std::uint32_t> ranks(scores.size());
  for (std::uint32_t i = 0; i < order.size(); ++i) {
    const bool tied = i > 0 && scores[order[i]] == scores[order[i - 1]];
    ranks[order[i]] = tied ? ranks[order[i - 1]] : i;
  }
  return ranks;
}

class SentencePieceTokenizer final : public SegmentTokenizer {
 public:
  SentencePieceTokenizer(TokenizerData data, PieceRules rules)
      : SegmentTokenizer(std::move(data)), rules_(std::move(rules)) {}

  std::string piece(TokenId id, bool special) const override {
    if (id < 0 || static_cast<std::size_t>(id) >= data_.tokens.size()) return {};
    const std::string& token = data_.tokens[static_cast<std::size_t>(id)];
    switch (data_.types[static_cast<std::size_t>(id)]) {
      case TokenType::control:
      case TokenType::unknown:
        return special ? token : std::string();
      case TokenType::byte:
        return std::string(1, static_cast<char>(byte_of_piece(token)));
      default:
        return replace_all(token, kSpaceSymbol, " ");
    }
  }

 private:
  std::string normalize(std::string_view text, bool at_start) const override {
    const std::string trimmed = data_.trim_spaces ? trim_spaces(text) : std::string();
    if (data_.trim_spaces) text = trimmed;
    std::string normal = replace_all(text, " ", kSpaceSymbol);
    const bool prefix = data_.add_space_prefix && (at_start || !data_.prefix_first_only) &&
                        !(data_.prefix_unless_space && normal.starts_with(kSpaceSymbol));
    if (prefix && !normal.empty()) normal.insert(0, kSpaceSymbol);
    while (data_.trim_spaces &&
           normal.ends_with(kSpaceSymbol)) {  // U+2581 may be in the text itself
      normal.resize(normal.size() - kSpaceSymbol.size());
    }
    return normal;
  }

  void append_tokens(std::string_view text, std::vector<TokenId>& out) const override {
    BpeCache cache(text);
    BpeWord scratch;
    const std::size_t floor = out.size();
    std::size_t begin = 0;
    while (begin < text.size()) {
      std::size_t last = begin;  // the character before the cut
      std::size_t end = begin + character_bytes(text[begin]);
      while (end < text.size() && !cut_between(text, begin, last, end)) {
        last = end;
        end += character_bytes(text[end]);
      }
      const std::string_view word = text.substr(begin, end - begin);
      if (!cache.append(word, out)) {
        const std::size_t at = out.size();
        // An unknown character may have melted into the one before: not a thing to repeat.
        if (append_word(word, floor, scratch, out)) cache.remember(word, at, out);
      }
      begin = end;
    }
  }

  /// Whether no merge crosses from the character at `last` to the one at `at`.
  bool cut_between(std::string_view text, std::size_t begin, std::size_t last,
                   std::size_t at) const noexcept {
    const std::string_view right = text.substr(at, character_bytes(text[at]));
    return (data_.split_at_spaces && right == kSpaceSymbol) || at - begin >= kMaxWordBytes ||
           !rules_.inner_pairs->has(text.substr(last, at - last), right);
  }

  /// `floor`: where the segment's tokens begin in `out`. False when some character became `unk`.
  bool append_word(std::string_view word, std::size_t floor, BpeWord& scratch,
                   std::vector<TokenId>& out) const {
    scratch.clear();
    for (std::size_t i = 0; i < word.size();) {
      const std::size_t n_bytes = character_bytes(word[i]);
      scratch.append(static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(n_bytes),
                     rules_.index.find(word.substr(i, n_bytes)));
      i += n_bytes;
    }
    if (rules_.merges) {
      scratch.merge([&](const BpeSymbol& left, const BpeSymbol& right) {
        const Merge* merge = rules_.merges->find(left.id, right.id);
        return merge == nullptr ? Merge{} : *merge;
      });
    } else {
      scratch.merge([&](const BpeSymbol& left, const BpeSymbol& right) {
        const TokenId id = rules_.index.find(word.substr(left.begin, left.n_bytes + right.n_bytes));
        return id == kNoToken ? Merge{} : Merge{rules_.priority[static_cast<std::size_t>(id)], id};
      });
    }
    bool known = true;
    scratch.for_each([&](const BpeSymbol& symbol) {
      if (symbol.id != kNoToken) {
        out.push_back(symbol.id);
      } else if (!append_bytes(word.substr(symbol.begin, symbol.n_bytes), out)) {
        known = false;
        const bool fuses = data_.fuse_unk && out.size() > floor && out.back() == data_.unk;
        if (data_.unk != kNoToken && !fuses) out.push_back(data_.unk);
      }
    });
    return known;
  }

  bool append_bytes(std::string_view character, std::vector<TokenId>& out) const {
    const auto byte_id = [&](char c) { return rules_.byte_ids[static_cast<unsigned char>(c)]; };
    const bool complete = std::all_of(character.begin(), character.end(),
                                      [&](char c) { return byte_id(c) != kNoToken; });
    if (!data_.byte_fallback || !complete) return false;
    for (const char c : character) out.push_back(byte_id(c));
    return true;
  }

  PieceRules rules_;
};

/// Merges join ids in the file's order, so every piece counts; scores apply to text, which control
/// and byte pieces must not match.
bool text_can_become(const TokenizerData& data, TokenId id) noexcept {
  const auto i = static_cast<std::size_t>(id);
  if (data.tokens[i].empty()) return false;
  return !data.merges.empty() || data.types[i] == TokenType::normal ||
         data.types[i] == TokenType::user_defined;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> create_sentencepiece_tokenizer(TokenizerData data) {
  if (data.merges.empty() && data.scores.empty()) {
    return fail(Errc::corrupt, "tokenizer: neither scores nor merges for {} tokens",
                data.tokens.size());
  }
  PieceRules rules{
      .index = TokenIndex(data.tokens, [&](TokenId id) { return text_can_become(data, id); }),
      .inner_pairs = std::make_unique<InnerPairs>()};
  rules.byte_ids.fill(kNoToken);
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    const int byte = byte_of_piece(data.tokens[id]);
    if (data.types[id] == TokenType::byte && byte < 0) {
      return fail(Errc::corrupt, "tokenizer: token {} '{}' is of type byte, but names none", id,
                  data.tokens[id].substr(0, 32));
    }
    if (data.types[id] == TokenType::byte) {
      rules.byte_ids[static_cast<std::size_t>(byte)] = static_cast<TokenId>(id);
    } else if (is_valid_utf8(data.tokens[id])) {
      rules.inner_pairs->add(data.tokens[id]);
    }
  }
  if (data.merges.empty()) {
    rules.priority = rank_by_score(data.scores);
  } else {
    LARDER_ASSIGN(rules.merges, MergeRules::create(data.merges, rules.index));
  }
  return std::make_unique<SentencePieceTokenizer>(std::move(data), std::move(rules));
}

}  // namespace larder
