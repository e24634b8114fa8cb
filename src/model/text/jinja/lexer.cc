#include "model/text/jinja/lexer.h"

#include <algorithm>

#include "model/text/jinja/unicode.h"

namespace larder::jinja {

namespace {

bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool starts_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

/// Line ends become "\n", and one at the very end is dropped (Jinja's keep_trailing_newline=False).
std::string normalised(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      out += '\n';
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {
    line_starts_.push_back(0);
    for (std::size_t i = 0; i < source_.size(); ++i) {
      if (source_[i] == '\n') line_starts_.push_back(i + 1);
    }
  }

  Result<std::vector<Token>> run() {
    while (at_ < source_.size()) LARDER_TRY(next_section());
    push(TokenKind::end, at_, "");
    return std::move(tokens_);
  }

 private:
  Position position(std::size_t offset) const {
    const auto it = std::upper_bound(line_starts_.begin(), line_starts_.end(), offset);
    const auto line = static_cast<std::size_t>(it - line_starts_.begin());
    return {static_cast<std::uint32_t>(line),
            static_cast<std::uint32_t>(offset - line_starts_[line - 1] + 1)};
  }

  tl::unexpected<Error> broken(std::size_t offset, std::string_view what) const {
    const Position p = position(offset);
    return fail(Errc::corrupt, "chat template, line {}, column {}: {}", p.line, p.column, what);
  }

  void push(TokenKind kind, std::size_t offset, std::string text) {
    tokens_.push_back({kind, position(offset), std::move(text)});
  }

  bool looking_at(std::string_view text) const {
    return std::string_view(source_).substr(at_, text.size()) == text;
  }

  void skip_blanks() {
    while (at_ < source_.size() && is_blank(source_[at_])) ++at_;
  }

  /// Text up to the next tag, then the tag.
  Result<void> next_section() {
    const std::size_t start = at_;
    std::size_t tag = start;
    do {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        push(TokenKind::data, start, source_.substr(start));
        at_ = source_.size();
        return {};
      }
      ++tag;
    } while (source_[tag] != '%' && source_[tag] != '{' && source_[tag] != '#');
    const char kind = source_[tag];
    at_ = tag + 1;
    push_text_before(start, tag - 1, take_sign(), kind != '{');
    if (kind == '#') return comment(tag - 1);
    if (kind == '%' && take_raw_begin()) return raw(tag - 1);
    push(kind == '%' ? TokenKind::block_begin : TokenKind::print_begin, tag - 1, "");
    return tag_inside(tag - 1, kind == '%');
  }

  char take_sign() {
    if (at_ < source_.size() && (source_[at_] == '-' || source_[at_] == '+')) return source_[at_++];
    return 0;
  }

  void push_text_before(std::size_t start, std::size_t end, char sign, bool strips_indent) {
    std::string_view text = std::string_view(source_).substr(start, end - start);
    if (sign == '-') {
      text = strip(text, Side::right, nullptr);
    } else if (sign != '+' && strips_indent) {
      const std::size_t line = text.rfind('\n') + 1;  // npos + 1 is 0
      const bool blank =
          std::all_of(text.begin() + static_cast<std::ptrdiff_t>(line), text.end(), is_blank);
      if ((line > 0 || line_starting_) && blank) text = text.substr(0, line);
    }
    if (!text.empty()) push(TokenKind::data, start, std::string(text));
  }

  /// The white space a closing tag swallows: all of it after "-", one line end after a block.
  void after_end(bool minus, bool is_block, bool plus = false) {
    if (minus) {
      skip_blanks();
    } else if (is_block && !plus && at_ < source_.size() && source_[at_] == '\n') {
      ++at_;
    }
    line_starting_ = source_[at_ - 1] == '\n';
  }

  Result<void> comment(std::size_t begin) {
    const std::size_t end = source_.find("#}", at_);
    if (end == std::string::npos) return broken(begin, "a comment has no end");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    at_ = end + 2;
    after_end(sign == '-', true, sign == '+');
    return {};
  }

  /// True when a raw block begins here; the position is then after its tag.
  bool take_raw_begin() {
    const std::size_t before = at_;
    skip_blanks();
    if (looking_at("raw")) {
      at_ += 3;
      skip_blanks();
      const bool minus = looking_at("-%}");
      if (minus || looking_at("%}")) {
        at_ += minus ? 3 : 2;
        after_end(minus, false);
        return true;
      }
    }
    at_ = before;
    return false;
  }

  Result<void> raw(std::size_t begin) {
    const std::size_t start = at_;
    for (std::size_t tag = source_.find("{%", start); tag != std::string::npos;
         tag = source_.find("{%", tag + 2)) {
      at_ = tag + 2;
      const char sign = take_sign();
      skip_blanks();
      if (!looking_at("endraw")) continue;
      at_ += 6;
      skip_blanks();
      const char end_sign = looking_at("-%}") ? '-' : looking_at("+%}") ? '+' : '\0';
      if (end_sign == 0 && !looking_at("%}")) continue;
      at_ += end_sign != 0 ? 3 : 2;
      push_text_before(start, tag, sign, true);
      after_end(end_sign == '-', true, end_sign == '+');
      return {};
    }
    return broken(begin, "a raw block has no end");
  }

  Result<void> tag_inside(std::size_t begin, bool is_block) {
    const std::string_view close = is_block ? "%}" : "}}";
    int open_brackets = 0;
    for (;;) {
      skip_blanks();
      if (at_ >= source_.size()) return broken(begin, "a tag has no end");
      if (open_brackets == 0) {
        const char c = source_[at_];
        const bool sign = (c == '-' || (c == '+' && is_block)) &&
                          std::string_view(source_).substr(at_ + 1, 2) == close;
        if (sign || looking_at(close)) {
          push(is_block ? TokenKind::block_end : TokenKind::print_end, at_, "");
          at_ += sign ? 3 : 2;
          after_end(sign && c == '-', is_block, sign && c == '+');
          return {};
        }
      }
      LARDER_TRY(token(open_brackets));
    }
  }

  Result<void> token(int& open_brackets) {
    const std::size_t start = at_;
    const char c = source_[at_];
    if (c == '"' || c == '\'') return string_literal(c);
    if (is_digit(c)) return number();
    if (starts_name(c)) {
      while (at_ < source_.size() && (starts_name(source_[at_]) || is_digit(source_[at_]))) ++at_;
      push(TokenKind::name, start, source_.substr(start, at_ - start));
      return {};
    }
    for (const std::string_view two : {"**", "//", "==", "!=", "<=", ">="}) {
      if (!looking_at(two)) continue;
      at_ += 2;
      push(TokenKind::symbol, start, std::string(two));
      return {};
    }
    if (std::string_view("+-*/%~[](){}<>=.:|,").find(c) == std::string_view::npos) {
      return broken(at_, fmt::format("unexpected byte 0x{:02x}", static_cast<unsigned char>(c)));
    }
    if (c == '(' || c == '[' || c == '{') ++open_brackets;
    if (c == ')' || c == ']' || c == '}') {
      if (--open_brackets < 0) return broken(at_, fmt::format("unexpected '{}'", c));
    }
    ++at_;
    push(TokenKind::symbol, start, std::string(1, c));
    return {};
  }

  Result<void> number() {
    const std::size_t start = at_;
    const auto digits = [&] {
      while (at_ < source_.size() && is_digit(source_[at_])) ++at_;
    };
    const auto digit_at = [&](std::size_t i) { return i < source_.size() && is_digit(source_[i]); };
    bool real = false;
    digits();
    if (at_ < source_.size() && source_[at_] == '.' && digit_at(at_ + 1)) {
      real = true;
      ++at_;
      digits();
    }
    if (at_ < source_.size() && (source_[at_] == 'e' || source_[at_] == 'E')) {
      const bool sign =
          at_ + 1 < source_.size() && (source_[at_ + 1] == '+' || source_[at_ + 1] == '-');
      if (digit_at(at_ + (sign ? 2 : 1))) {
        real = true;
        at_ += sign ? 2 : 1;
        digits();
      }
    }
    push(real ? TokenKind::real : TokenKind::integer, start, source_.substr(start, at_ - start));
    return {};
  }

  Result<void> string_literal(char quote) {
    const std::size_t start = at_++;
    std::string text;
    while (at_ < source_.size() && source_[at_] != quote) {
      if (source_[at_] != '\\') {
        text += source_[at_++];
        continue;
      }
      ++at_;
      if (at_ >= source_.size()) break;
      LARDER_TRY(escape(text));
    }
    if (at_ >= source_.size()) return broken(start, "a string has no end");
    ++at_;
    push(TokenKind::text, start, std::move(text));
    return {};
  }

  /// After a backslash: Python's escapes, but for \N{name}.
  Result<void> escape(std::string& text) {
    constexpr std::string_view kLetters = "abfnrtv\\'\"";
    constexpr std::string_view kCodes = "\a\b\f\n\r\t\v\\'\"";
    const char c = source_[at_++];
    const auto i = kLetters.find(c);
    if (i != std::string_view::npos) {
      text += kCodes[i];
    } else if (c >= '0' && c <= '7') {
      --at_;
      append_utf8(code_point(8, 3), text);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const std::size_t n_digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      const std::size_t start = at_;
      const char32_t code = code_point(16, n_digits);
      if (at_ != start + n_digits || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
        return broken(start - 2, "a string has a wrong \\x, \\u or \\U escape");
      }
      append_utf8(code, text);
    } else if (c != '\n') {
      text += '\\';  // Python keeps the backslash of escapes it does not know
      text += c;
    }
    return {};
  }

  char32_t code_point(unsigned base, std::size_t n_digits) {
    char32_t code = 0;
    for (std::size_t i = 0; i < n_digits && at_ < source_.size(); ++i, ++at_) {
      const char c = static_cast<char>(source_[at_] | 0x20);
      const unsigned digit = is_digit(c)            ? static_cast<unsigned>(c - '0')
                             : c >= 'a' && c <= 'f' ? static_cast<unsigned>(c - 'a' + 10)
                                                    : 16;
      if (digit >= base) break;
      code = code * base + digit;
    }
    return code;
  }

  std::string source_;
  std::vector<std::size_t> line_starts_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  bool line_starting_ = true;  // what follows is the beginning of a line, as lstrip_blocks sees it
};

}  // namespace

Result<std::vector<Token>> tokenize_template(std::string_view source) {
  return Lexer(normalised(source)).run();
}

}  // namespace larder::jinja
