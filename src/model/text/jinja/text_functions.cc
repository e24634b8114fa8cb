#include "model/text/jinja/text_functions.h"

#include <algorithm>
#include <limits>

#include "model/text/jinja/print.h"
#include "model/text/jinja/unicode.h"

namespace larder::jinja {

namespace {

/// A place where `replace` puts its new text, and how many old bytes go.
std::size_t next_match(std::string_view text, std::string_view from, std::size_t start) {
  return from.empty() ? start : text.find(from, start);
}

std::vector<std::string_view> split_at(std::string_view text, std::string_view separator,
                                       std::uint64_t limit) {
  std::vector<std::string_view> parts;
  while (parts.size() < limit) {
    const std::size_t at = text.find(separator);
    if (at == std::string_view::npos) break;
    parts.push_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
  }
  parts.push_back(text);
  return parts;
}

std::vector<std::string_view> split_at_right(std::string_view text, std::string_view separator,
                                             std::uint64_t limit) {
  std::vector<std::string_view> parts;
  while (parts.size() < limit) {
    const std::size_t at = text.rfind(separator);
    if (at == std::string_view::npos) break;
    parts.push_back(text.substr(at + separator.size()));
    text = text.substr(0, at);
  }
  parts.push_back(text);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::size_t word_end(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const Character c = character_at(text, i);
    if (is_space(c.code)) break;
    i += c.size;
  }
  return i;
}

std::vector<std::string_view> split_words(std::string_view text, std::uint64_t limit) {
  std::vector<std::string_view> parts;
  for (text = strip(text, Side::left, nullptr); !text.empty();
       text = strip(text, Side::left, nullptr)) {
    if (parts.size() == limit) {
      parts.push_back(text);
      break;
    }
    const std::size_t end = word_end(text);
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return parts;
}

}  // namespace

Result<Value> replace_text(std::string_view text, std::string_view from, std::string_view to,
                           std::int64_t count, Budget& budget) {
  LARDER_TRY(budget.charge(text.size()));
  const auto limit = count < 0 ? std::numeric_limits<std::int64_t>::max() : count;
  std::string out;
  std::size_t at = 0;
  for (std::int64_t n = 0; n < limit; ++n) {
    const std::size_t match = next_match(text, from, at);
    if (match == std::string_view::npos) break;
    out.append(text.substr(at, match - at));
    out.append(to);
    at = match + from.size();
    if (from.empty()) {  // Python puts `to` before every character and at the end
      if (at >= text.size()) break;
      const std::size_t size = character_at(text, at).size;
      out.append(text.substr(at, size));
      at += size;
    }
    if (out.size() > kMaxTextBytes) break;
  }
  LARDER_TRY(budget.text(out.size() + text.size() - at));
  out.append(text.substr(at));
  return Value(std::move(out));
}

Result<Value> join_texts(std::string_view separator, const std::vector<Value>& items,
                         Budget& budget) {
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    LARDER_ASSIGN(const std::string text, to_text(items[i]));
    LARDER_TRY(budget.charge(text.size() + separator.size() + 1));
    if (i > 0) out += separator;
    out += text;
    LARDER_TRY(budget.text(out.size() > kMaxTextBytes ? out.size() : 0));
  }
  return Value(std::move(out));
}

Result<Value> split_text(std::string_view text, const std::string* separator, std::int64_t limit,
                         bool from_right, Budget& budget) {
  LARDER_TRY(budget.charge(text.size()));
  const auto at_most =
      limit < 0 ? std::numeric_limits<std::uint64_t>::max() : static_cast<std::uint64_t>(limit);
  std::vector<std::string_view> parts;
  if (separator == nullptr) {
    if (from_right && limit >= 0) {
      return fail(Errc::unsupported, "rsplit at white space with a limit is not supported");
    }
    parts = split_words(text, at_most);
  } else if (separator->empty()) {
    return fail(Errc::invalid_argument, "split with an empty separator");
  } else {
    parts = from_right ? split_at_right(text, *separator, at_most)
                       : split_at(text, *separator, at_most);
  }
  LARDER_TRY(budget.charge(text.size() + parts.size() * 2 * sizeof(Value)));
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.emplace_back(part);
  return make_list(std::move(items), budget);
}

}  // namespace larder::jinja
