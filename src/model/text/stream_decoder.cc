#include "model/text/tokenizer.h"
#include "model/text/unicode.h"

namespace larder {

std::string StreamDecoder::push(TokenId id) {
  held_ += tokenizer_->piece(id, false);
  if (held_.empty()) return {};
  if (at_start_ && tokenizer_->drops_leading_space() && held_[0] == ' ') held_.erase(0, 1);
  at_start_ = false;
  std::string text;
  held_.erase(0, append_valid_utf8(held_, true, text));
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  append_valid_utf8(held_, false, text);
  held_.clear();
  return text;
}

}  // namespace larder
