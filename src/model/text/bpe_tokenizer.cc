// Byte-level BPE: GPT-2's alphabet of printable characters, one for each byte, and what grew from
// it.
#include <array>

#include "base/fail.h"
#include "model/text/bpe.h"
#include "model/text/bpe_cache.h"
#include "model/text/pretokenizer.h"
#include "model/text/tokenizer_segments.h"
#include "model/text/unicode.h"

namespace larder {
namespace {

constexpr char32_t kAlphabetEnd = 0x144;  // one past the last character that stands for a byte

/// Bytes that print stand for themselves; the others, in order, are U+0100 and what follows.
struct ByteAlphabet {
  std::array<char32_t, 256> of_byte{};
  std::array<std::int16_t, kAlphabetEnd> of_char{};  // -1: stands for no byte

  constexpr ByteAlphabet() {
    of_char.fill(-1);
    char32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool prints = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      of_byte[byte] = prints ? byte : next++;
      of_char[of_byte[byte]] = static_cast<std::int16_t>(byte);
    }
  }
};
constexpr ByteAlphabet kAlphabet;

std::string to_printable(std::string_view bytes) {
  std::string printable;
  for (const char c : bytes)
    append_utf8(kAlphabet.of_byte[static_cast<unsigned char>(c)], printable);
  return printable;
}

/// The token itself when it holds a character outside the alphabet.
std::string from_printable(const std::string& token) {
  std::string bytes;
  for (std::size_t i = 0; i < token.size();) {
    const Utf8Step step = next_character(std::string_view(token).substr(i));
    if (step.status != Utf8Status::complete || step.code_point >= kAlphabetEnd) return token;
    const std::int16_t byte = kAlphabet.of_char[step.code_point];
    if (byte < 0) return token;
    bytes += static_cast<char>(byte);
    i += step.n_bytes;
  }
  return bytes;
}

class ByteBpeTokenizer final : public SegmentTokenizer {
 public:
  ByteBpeTokenizer(TokenizerData data, TokenIndex index, MergeRules merges, PreTokenizer cut)
      : SegmentTokenizer(std::move(data)),
        index_(std::move(index)),
        merges_(std::move(merges)),
        cut_(std::move(cut)) {
    for (unsigned byte = 0; byte < 256; ++byte) {
      byte_ids_[byte] = index_.find(to_printable(std::string(1, static_cast<char>(byte))));
    }
  }

  std::string piece(TokenId id, bool special) const override {
    if (id < 0 || static_cast<std::size_t>(id) >= data_.tokens.size()) return {};
    const std::string& token = data_.tokens[static_cast<std::size_t>(id)];
    switch (data_.types[static_cast<std::size_t>(id)]) {
      case TokenType::control:
      case TokenType::unknown:
        return special ? token : std::string();
      case TokenType::user_defined:
        return token;
      default:
        return from_printable(token);
    }
  }

 private:
  std::string normalize(std::string_view text, bool) const override {
    std::string normal = data_.nfc ? to_nfc(text) : std::string(text);
    if (data_.byte_space_prefix && !normal.starts_with(' ')) normal.insert(0, 1, ' ');
    return normal;
  }

  void append_tokens(std::string_view text, std::vector<TokenId>& out) const override {
    std::vector<std::string_view> words;
    cut_.split(text, words);
    BpeCache cache(text);
    BpeWord scratch;
    for (std::string_view word : words) {
      if (cache.append(word, out)) continue;
      const std::size_t begin = out.size();
      for (; word.size() > kMaxWordBytes; word.remove_prefix(kMaxWordBytes)) {
        append_word(word.substr(0, kMaxWordBytes), scratch, out);
      }
      append_word(word, scratch, out);
      cache.remember(word, begin, out);
    }
  }

  void append_word(std::string_view word, BpeWord& scratch, std::vector<TokenId>& out) const {
    if (data_.ignore_merges) {
      const TokenId whole = index_.find(to_printable(word));
      if (whole != kNoToken && data_.types[static_cast<std::size_t>(whole)] == TokenType::normal) {
        out.push_back(whole);
        return;
      }
    }
    scratch.clear();
    for (std::size_t i = 0; i < word.size(); ++i) {
      // A byte that the vocabulary lacks is dropped, as the `tokenizers` library does.
      const TokenId id = byte_ids_[static_cast<unsigned char>(word[i])];
      if (id != kNoToken) scratch.append(static_cast<std::uint32_t>(i), 1, id);
    }
    scratch.merge([&](const BpeSymbol& left, const BpeSymbol& right) {
      const Merge* merge = merges_.find(left.id, right.id);
      return merge == nullptr ? Merge{} : *merge;
    });
    scratch.for_each([&](const BpeSymbol& symbol) { out.push_back(symbol.id); });
  }

  TokenIndex index_;
  MergeRules merges_;
  PreTokenizer cut_;
  std::array<TokenId, 256> byte_ids_{};
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> create_byte_bpe_tokenizer(TokenizerData data) {
  const PreTokenizerRule* rule = find_pre_tokenizer(data.pre);
  if (rule == nullptr) {
    return fail(Errc::unsupported, "tokenizer: the pre-tokenizer '{}' is not known", data.pre);
  }
  data.ignore_merges = data.ignore_merges || rule->ignore_merges;
  data.nfc = data.nfc || rule->nfc;
  // The index refers to the strings, which stay where they are while the vector moves.
  TokenIndex index(data.tokens, [](TokenId) { return true; });
  LARDER_ASSIGN(MergeRules merges, MergeRules::create(data.merges, index));
  LARDER_ASSIGN(PreTokenizer cut, PreTokenizer::create(*rule));
  return std::make_unique<ByteBpeTokenizer>(std::move(data), std::move(index), std::move(merges),
                                            std::move(cut));
}

}  // namespace larder
