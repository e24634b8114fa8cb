#include "model/io/llama2c_tokenizer.h"

#include <cstdint>
#include <cstring>

#include "base/fail.h"
#include "model/io/mapped_file.h"
#include "model/text/unicode.h"

namespace larder {
namespace {

constexpr std::int32_t kMaxPieceBytes = 1 << 12;
constexpr std::size_t kMaxTokens = std::size_t{1} << 20;
constexpr std::size_t kByteIds = 3;  // ids 0 1 2: unknown, BOS, EOS; then one for each byte
constexpr std::size_t kFirstText = kByteIds + 256;

/// REQUIRES: sizeof(T) bytes at `at`.
template <class T>
T load(std::span<const std::byte> bytes, std::size_t at) noexcept {
  T value{};
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

std::string with_space_symbols(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == ' ') {
      out += kSpaceSymbol;
    } else {
      out += c;
    }
  }
  return out;
}

void append_token(TokenizerData& data, std::string_view text, float score) {
  const std::size_t id = data.tokens.size();
  data.scores.push_back(score);
  if (id < kByteIds) {
    constexpr const char* kNames[] = {"<unk>", "<s>", "</s>"};
    data.tokens.emplace_back(kNames[id]);
    data.types.push_back(id == 0 ? TokenType::unknown : TokenType::control);
  } else if (id < kFirstText) {
    data.tokens.push_back(fmt::format("<0x{:02X}>", id - kByteIds));
    data.types.push_back(TokenType::byte);
  } else {
    data.tokens.push_back(with_space_symbols(text));
    data.types.push_back(TokenType::normal);
  }
}

}  // namespace

Result<TokenizerData> parse_llama2c_tokenizer(std::span<const std::byte> bytes,
                                              const std::string& origin) {
  if (bytes.size() < sizeof(std::int32_t)) {
    return fail(Errc::corrupt, "{}: {} bytes are no llama2.c tokenizer", origin, bytes.size());
  }
  TokenizerData data;
  data.kind = TokenizerKind::sentencepiece;
  data.prefix_first_only = true;
  std::size_t at = sizeof(std::int32_t);
  while (at < bytes.size()) {
    const std::size_t id = data.tokens.size();
    if (bytes.size() - at < 8 || id >= kMaxTokens) {
      return fail(Errc::corrupt, "{}: token {} begins {} bytes before the end", origin, id,
                  bytes.size() - at);
    }
    const auto score = load<float>(bytes, at);
    const auto n_bytes = load<std::int32_t>(bytes, at + 4);
    at += 8;
    if (n_bytes < 0 || n_bytes > kMaxPieceBytes ||
        static_cast<std::size_t>(n_bytes) > bytes.size() - at) {
      return fail(Errc::corrupt, "{}: the length of token {} is {}, with {} bytes left", origin, id,
                  n_bytes, bytes.size() - at);
    }
    const auto size = static_cast<std::size_t>(n_bytes);
    append_token(data, {reinterpret_cast<const char*>(bytes.data()) + at, size}, score);
    at += size;
  }
  if (data.tokens.size() <= kFirstText) {
    return fail(Errc::corrupt, "{}: {} tokens; a llama2.c tokenizer has more than {}", origin,
                data.tokens.size(), kFirstText);
  }
  data.unk = 0;
  data.bos = 1;
  data.eos = 2;
  data.add_bos = true;
  return data;
}

Result<TokenizerData> read_llama2c_tokenizer(const std::string& path) {
  LARDER_ASSIGN(const MappedFile file, MappedFile::open(path));
  return parse_llama2c_tokenizer(file.bytes(), path);
}

}  // namespace larder
