// SentencePiece's model file: the few fields of its protobuf that decide how a BPE model tokenizes.
#include <bit>
#include <cstring>
#include <optional>

#include "base/fail.h"
#include "model/io/hf_tokenizer.h"

namespace larder {
namespace {

constexpr std::size_t kMaxPieces = std::size_t{1} << 22;

/// Walks the fields of one protobuf message. After the end or an error `next` is false; `ok` tells
/// which.
class Message {
 public:
  explicit Message(std::string_view bytes) : rest_(bytes) {}

  bool next() {
    if (rest_.empty() || !ok_) return false;
    const std::uint64_t tag = varint();
    field_ = tag >> 3;
    bytes_ = {};
    value_ = 0;
    switch (tag & 7) {
      case 0:
        value_ = varint();
        break;
      case 1:
        bytes_ = take(8);
        break;
      case 2:
        bytes_ = take(varint());
        break;
      case 5:
        bytes_ = take(4);
        break;
      default:
        ok_ = false;
    }
    return ok_;
  }
  bool ok() const noexcept { return ok_; }
  std::uint64_t field() const noexcept { return field_; }
  std::uint64_t value() const noexcept { return value_; }     // of a varint
  std::string_view bytes() const noexcept { return bytes_; }  // of the other kinds
  std::int32_t int32() const noexcept { return static_cast<std::int32_t>(value_); }
  float float32() const noexcept {
    std::uint32_t bits = 0;
    if (bytes_.size() == sizeof bits) std::memcpy(&bits, bytes_.data(), sizeof bits);
    return std::bit_cast<float>(bits);
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) break;
      const auto byte = static_cast<unsigned char>(rest_[0]);
      rest_.remove_prefix(1);
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    ok_ = false;
    return 0;
  }
  std::string_view take(std::uint64_t n) {
    if (n > rest_.size()) {
      ok_ = false;
      return {};
    }
    const std::string_view taken = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return taken;
  }

  std::string_view rest_, bytes_;
  std::uint64_t field_ = 0, value_ = 0;
  bool ok_ = true;
};

// Field numbers of sentencepiece_model.proto.
enum : std::uint64_t { kPieces = 1, kTrainer = 2, kNormalizer = 3 };
enum : std::uint64_t { kPieceText = 1, kPieceScore = 2, kPieceType = 3 };
enum : std::uint64_t {
  kModelType = 3,
  kSpaceAsSuffix = 24,
  kByteFallback = 35,
  kUnkId = 40,
  kBosId = 41,
  kEosId = 42,
  kPadId = 43
};
enum : std::uint64_t { kCharsMap = 2, kDummyPrefix = 3, kTrimSpaces = 4, kEscapeSpaces = 5 };
constexpr std::uint64_t kUnigram = 1, kBpe = 2;

struct Reader {
  const std::string& origin;
  TokenizerData data;

  Result<void> corrupt(std::string_view what) const {
    return fail(Errc::corrupt, "{}: {} is not a valid protobuf message", origin, what);
  }

  Result<void> piece(std::string_view bytes) {
    const std::size_t id = data.tokens.size();
    if (id >= kMaxPieces) {
      return fail(Errc::corrupt, "{}: more than {} pieces", origin, kMaxPieces);
    }
    std::string text;
    float score = 0;
    std::uint64_t type = 1;
    Message message(bytes);
    while (message.next()) {
      if (message.field() == kPieceText) text = message.bytes();
      if (message.field() == kPieceScore) score = message.float32();
      if (message.field() == kPieceType) type = message.value();
    }
    if (!message.ok()) return corrupt(fmt::format("piece {}", id));
    if (type < 1 || type > 6) {
      return fail(Errc::corrupt, "{}: piece {} has the unknown type {}", origin, id, type);
    }
    data.types.push_back(static_cast<TokenType>(type));
    data.scores.push_back(score);
    // SentencePiece finds its own symbols in text whose spaces are U+2581 already; control pieces
    // are not its business, so those are matched in the text as it came.
    if (type == 2 || type == 3 || type == 4) {
      data.added.push_back({.id = static_cast<TokenId>(id), .text = text, .normalized = type == 4});
    }
    data.tokens.push_back(std::move(text));
    return {};
  }

  Result<void> trainer(std::string_view bytes) {
    std::uint64_t model_type = kUnigram;
    data.byte_fallback = false;
    data.unk = 0;
    data.bos = 1;
    data.eos = 2;
    Message message(bytes);
    while (message.next()) {
      switch (message.field()) {
        case kModelType:
          model_type = message.value();
          break;
        case kSpaceAsSuffix:
          if (message.value() != 0) {
            return fail(Errc::unsupported, "{}: treat_whitespace_as_suffix", origin);
          }
          break;
        case kByteFallback:
          data.byte_fallback = message.value() != 0;
          break;
        case kUnkId:
          data.unk = message.int32();
          break;
        case kBosId:
          data.bos = message.int32();
          break;
        case kEosId:
          data.eos = message.int32();
          break;
        case kPadId:
          data.pad = message.int32();
          break;
        default:
          break;
      }
    }
    if (!message.ok()) return corrupt("trainer_spec");
    if (model_type != kBpe) {
      return fail(Errc::unsupported, "{}: SentencePiece model type {}; only BPE (2) is supported",
                  origin, model_type);
    }
    return {};
  }

  Result<void> normalizer(std::string_view bytes) {
    data.add_space_prefix = data.trim_spaces = true;
    Message message(bytes);
    while (message.next()) {
      if (message.field() == kCharsMap && !message.bytes().empty()) {
        return fail(Errc::unsupported, "{}: a character map (normalisation other than 'identity')",
                    origin);
      }
      if (message.field() == kEscapeSpaces && message.value() == 0) {
        return fail(Errc::unsupported, "{}: escape_whitespaces is false", origin);
      }
      if (message.field() == kDummyPrefix) data.add_space_prefix = message.value() != 0;
      if (message.field() == kTrimSpaces) data.trim_spaces = message.value() != 0;
    }
    return message.ok() ? Result<void>{} : corrupt("normalizer_spec");
  }
};

}  // namespace

Result<TokenizerData> parse_sentencepiece_model(std::span<const std::byte> bytes,
                                                const std::string& origin) {
  Reader reader{.origin = origin, .data = {}};
  reader.data.kind = TokenizerKind::sentencepiece;
  reader.data.prefix_first_only = true;
  bool has_trainer = false;
  bool has_normalizer = false;
  Message message({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  while (message.next()) {
    if (message.field() == kPieces) LARDER_TRY(reader.piece(message.bytes()));
    if (message.field() == kTrainer) {
      LARDER_TRY(reader.trainer(message.bytes()));
      has_trainer = true;
    }
    if (message.field() == kNormalizer) {
      LARDER_TRY(reader.normalizer(message.bytes()));
      has_normalizer = true;
    }
  }
  if (!message.ok() || !has_trainer || !has_normalizer || reader.data.tokens.empty()) {
    return fail(Errc::corrupt,
                "{}: not a SentencePiece model: pieces {}, trainer_spec {}, "
                "normalizer_spec {}",
                origin, reader.data.tokens.size(), has_trainer ? "present" : "missing",
                has_normalizer ? "present" : "missing");
  }
  return std::move(reader.data);
}

}  // namespace larder
