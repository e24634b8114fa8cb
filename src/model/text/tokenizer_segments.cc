#include "model/text/tokenizer_segments.h"

#include "model/text/unicode.h"

namespace larder {
namespace {

std::vector<AddedToken> select(const std::vector<AddedToken>& added, bool normalized) {
  std::vector<AddedToken> selected;
  for (const AddedToken& token : added) {
    if (token.normalized == normalized) selected.push_back(token);
  }
  return selected;
}

}  // namespace

SegmentTokenizer::SegmentTokenizer(TokenizerData data)
    : Tokenizer(std::move(data)),
      before_(select(data_.added, false), data_.types),
      after_(select(data_.added, true), data_.types) {}

std::vector<TokenId> SegmentTokenizer::encode(std::string_view text,
                                              const EncodeOptions& options) const {
  std::string repaired;
  if (!is_valid_utf8(text)) {
    append_valid_utf8(text, false, repaired);
    text = repaired;
  }
  std::vector<TokenId> ids;
  const auto on_token = [&](TokenId id) { ids.push_back(id); };
  const auto on_text = [&](std::string_view segment) {
    const std::string normal = normalize(segment, segment.data() == text.data());
    after_.for_each_part(
        normal, options.parse_special, [&](std::string_view part) { append_tokens(part, ids); },
        on_token);
  };
  if (options.add_special && data_.add_bos && data_.bos != kNoToken) ids.push_back(data_.bos);
  before_.for_each_part(text, options.parse_special, on_text, on_token);
  if (options.add_special && data_.add_eos && data_.eos != kNoToken) ids.push_back(data_.eos);
  return ids;
}

std::string SegmentTokenizer::decode(std::span<const TokenId> ids, bool special) const {
  std::string bytes;
  for (const TokenId id : ids) bytes += piece(id, special);
  const std::string_view text = bytes;
  std::string valid;
  append_valid_utf8(drops_leading_space() && text.starts_with(' ') ? text.substr(1) : text, false,
                    valid);
  return valid;
}

}  // namespace larder
