#include "model/text/jinja/print.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "model/text/jinja/unicode.h"

namespace larder::jinja {

namespace {

/// repr(float): the shortest digits that give the number back, with an exponent from 1e16 and below
/// 1e-4.
std::string real_text(double x, bool json) {
  if (std::isnan(x)) return json ? "NaN" : "nan";
  if (std::isinf(x)) return fmt::format("{}{}", x < 0 ? "-" : "", json ? "Infinity" : "inf");
  char buffer[64];
  const double size = std::fabs(x);
  const bool scientific = size != 0 && (size < 1e-4 || size >= 1e16);
  const auto format = scientific ? std::chars_format::scientific : std::chars_format::fixed;
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), x, format).ptr;
  std::string text(buffer, end);
  if (!scientific && text.find('.') == std::string::npos) text += ".0";
  return text;
}

/// Code points str.isprintable refuses: controls, separators other than the blank, invisible marks.
bool is_printable(char32_t c) {
  if (c < 0x20 || (c >= 0x7F && c <= 0xA0) || c == 0xAD) return false;
  if (is_space(c) && c != ' ') return false;
  return !((c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) ||
           (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF || (c >= 0xD800 && c <= 0xF8FF) ||
           (c >= 0xFFF9 && c <= 0xFFFB) || c >= 0xE0000);
}

void append_repr(std::string_view text, std::string& out) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  out += quote;
  for (std::size_t i = 0; i < text.size();) {
    const Character c = character_at(text, i);
    if (c.code == static_cast<char32_t>(quote) || c.code == '\\') {
      out += '\\';
      out += static_cast<char>(c.code);
    } else if (c.code == '\n') {
      out += "\\n";
    } else if (c.code == '\r') {
      out += "\\r";
    } else if (c.code == '\t') {
      out += "\\t";
    } else if (is_printable(c.code)) {
      out += text.substr(i, c.size);
    } else {
      const auto code = static_cast<std::uint32_t>(c.code);
      out += code < 0x100     ? fmt::format("\\x{:02x}", code)
             : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                              : fmt::format("\\U{:08x}", code);
    }
    i += c.size;
  }
  out += quote;
}

void append_escaped_unit(std::uint32_t unit, std::string& out) {
  out += fmt::format("\\u{:04x}", unit);
}

void append_json_text(std::string_view text, bool ensure_ascii, std::string& out) {
  constexpr std::string_view kPlain = "\"\\\n\r\t\f\b";
  constexpr std::string_view kLetters = "\"\\nrtfb";
  out += '"';
  for (std::size_t i = 0; i < text.size();) {
    const Character c = character_at(text, i);
    const auto special = c.code < 0x80 ? kPlain.find(static_cast<char>(c.code)) : kPlain.npos;
    const auto code = static_cast<std::uint32_t>(c.code);
    if (special != kPlain.npos) {
      out += '\\';
      out += kLetters[special];
    } else if (code < 0x20 || (ensure_ascii && code >= 0x7F && code < 0x10000 && code != 0x7F)) {
      append_escaped_unit(code, out);
    } else if (ensure_ascii && code >= 0x10000) {
      append_escaped_unit(0xD800 + ((code - 0x10000) >> 10), out);
      append_escaped_unit(0xDC00 + ((code - 0x10000) & 0x3FF), out);
    } else {
      out += text.substr(i, c.size);
    }
    i += c.size;
  }
  out += '"';
}

/// Shared lists can be printed many times over, so the size is checked while writing. Depth is
/// bounded by kMaxValueDepth.
Result<void> check_size(const std::string& out) {
  if (out.size() > kMaxTextBytes) {
    return fail(Errc::invalid_argument, "makes a string of more than {} bytes", kMaxTextBytes);
  }
  return {};
}

std::string scalar_text(const Value& value, bool json) {
  switch (value.kind()) {
    case Kind::none:
      return json ? "null" : "None";
    case Kind::boolean:
      if (json) return value.boolean() ? "true" : "false";
      return value.boolean() ? "True" : "False";
    case Kind::integer:
      return std::to_string(value.integral());
    default:
      return real_text(value.real(), json);
  }
}

bool is_scalar(const Value& value) { return value.is(Kind::none) || value.is_number(); }

Result<void> append_python(const Value& value, std::string& out) {
  LARDER_TRY(check_size(out));
  if (is_scalar(value)) {
    out += scalar_text(value, false);
  } else if (value.is(Kind::text)) {
    append_repr(value.text(), out);
  } else if (value.is(Kind::list)) {
    const List& list = value.list();
    out += list.is_tuple ? '(' : '[';
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out += ", ";
      LARDER_TRY(append_python(list.items[i], out));
    }
    if (list.is_tuple && list.items.size() == 1) out += ',';
    out += list.is_tuple ? ')' : ']';
  } else if (value.is(Kind::dict)) {
    out += '{';
    bool first = true;
    for (const auto& [key, item] : value.dict().entries) {
      if (!std::exchange(first, false)) out += ", ";
      append_repr(key, out);
      out += ": ";
      LARDER_TRY(append_python(item, out));
    }
    out += '}';
  } else if (value.is(Kind::undefined)) {
    out += "Undefined";
  } else {
    return fail(Errc::unsupported, "prints {}", value.describe());
  }
  return check_size(out);
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}
  std::string& out() { return out_; }

  Result<void> write(const Value& value) {
    LARDER_TRY(check_size(out_));
    if (is_scalar(value)) {
      out_ += scalar_text(value, true);
    } else if (value.is(Kind::text)) {
      append_json_text(value.text(), style_.ensure_ascii, out_);
    } else if (value.is(Kind::list)) {
      LARDER_TRY(write_list(value.list()));
    } else if (value.is(Kind::dict)) {
      LARDER_TRY(write_dict(value.dict()));
    } else {
      return fail(Errc::invalid_argument, "tojson of {}", value.describe());
    }
    return check_size(out_);
  }

 private:
  void new_line() {
    if (!style_.multi_line) return;
    out_ += '\n';
    for (std::uint32_t i = 0; i < level_; ++i) out_ += style_.indent;
  }

  Result<void> write_list(const List& list) {
    out_ += '[';
    ++level_;
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line();
      LARDER_TRY(write(list.items[i]));
    }
    --level_;
    if (!list.items.empty()) new_line();
    out_ += ']';
    return {};
  }

  Result<void> write_dict(const Dict& dict) {
    std::vector<const std::pair<std::string, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::sort(entries.begin(), entries.end(),
                [](const auto* a, const auto* b) { return a->first < b->first; });
    }
    out_ += '{';
    ++level_;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line();
      append_json_text(entries[i]->first, style_.ensure_ascii, out_);
      out_ += style_.key_separator;
      LARDER_TRY(write(entries[i]->second));
    }
    --level_;
    if (!entries.empty()) new_line();
    out_ += '}';
    return {};
  }

  const JsonStyle& style_;
  std::string out_;
  std::uint32_t level_ = 0;
};

}  // namespace

Result<std::string> to_text(const Value& value) {
  if (value.is(Kind::text)) return value.text();
  if (value.is(Kind::undefined)) return std::string();
  std::string out;
  LARDER_TRY(append_python(value, out));
  return out;
}

Result<std::string> to_json(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  LARDER_TRY(writer.write(value));
  return std::move(writer.out());
}

}  // namespace larder::jinja
