#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "model/text/jinja/filters.h"
#include "model/text/jinja/operators.h"
#include "model/text/jinja/print.h"
#include "model/text/jinja/text_functions.h"
#include "model/text/jinja/unicode.h"

namespace larder::jinja {

namespace {

constexpr std::size_t kMaxIndent = 256;  // characters; one level is repeated on every line

template <std::string (*map)(std::string_view)>
Result<Value> mapped(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(arguments.bind({}));
  LARDER_ASSIGN(const std::string text, to_text(input));
  LARDER_TRY(budget.text(text.size()));
  return Value(map(text));
}

Result<Value> string(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(arguments.bind({}));
  if (input.is(Kind::text)) return input;
  LARDER_ASSIGN(std::string text, to_text(input));
  return make_text(std::move(text), budget);
}

Result<Value> trim(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"chars"}));
  LARDER_ASSIGN(const std::string chars, text_argument(bound[0], ""));
  LARDER_ASSIGN(const std::string text, to_text(input));
  const bool blanks = bound[0] == nullptr || bound[0]->is(Kind::none);
  LARDER_TRY(budget.charge(text.size() * (1 + chars.size())));
  return make_text(std::string(strip(text, Side::both, blanks ? nullptr : &chars)), budget);
}

Result<Value> replace(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"old", "new", "count"}, 2));
  LARDER_ASSIGN(const std::string text, to_text(input));
  LARDER_ASSIGN(const std::string from, to_text(*bound[0]));
  LARDER_ASSIGN(const std::string to, to_text(*bound[1]));
  LARDER_ASSIGN(const std::int64_t count, integer_argument(bound[2], -1));
  return replace_text(text, from, to, count, budget);
}

/// "    " for 4; a string stands for itself.
Result<std::string> indentation(const Value& width) {
  if (width.is(Kind::text) && width.text().size() <= kMaxIndent) return width.text();
  if (width.is_integral() && width.integral() <= static_cast<std::int64_t>(kMaxIndent)) {
    return std::string(static_cast<std::size_t>(std::max<std::int64_t>(width.integral(), 0)), ' ');
  }
  return fail(Errc::invalid_argument, "an indentation is a number or text of at most {}",
              kMaxIndent);
}

Result<Value> indent(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"width", "first", "blank"}));
  LARDER_ASSIGN(const std::string text, to_text(input));
  LARDER_ASSIGN(const std::string prefix,
                indentation(bound[0] != nullptr ? *bound[0] : Value(std::int64_t{4})));
  const bool blank = flag_argument(bound[2], false);
  LARDER_TRY(budget.charge(text.size() * sizeof(std::string_view)));
  const std::string with_end = text + "\n";  // so that a trailing line end survives the splitting
  const auto lines = split_lines(with_end);
  LARDER_TRY(budget.text(text.size() + lines.size() * (prefix.size() + 1)));
  std::string out;
  if (flag_argument(bound[1], false)) out += prefix;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += '\n';
    if (i > 0 && (blank || !lines[i].empty())) out += prefix;
    out += lines[i];
  }
  return Value(std::move(out));
}

Result<Value> to_json_filter(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound,
                arguments.bind({"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  style.ensure_ascii = flag_argument(bound[0], false);
  style.sort_keys = flag_argument(bound[3], false);
  if (bound[1] != nullptr && !bound[1]->is(Kind::none)) {
    style.multi_line = true;
    style.item_separator = ",";
    LARDER_ASSIGN(style.indent, indentation(*bound[1]));
  }
  if (bound[2] != nullptr && !bound[2]->is(Kind::none)) {
    if (!bound[2]->is(Kind::list) || bound[2]->list().items.size() != 2) {
      return fail(Errc::invalid_argument, "separators are a pair of strings");
    }
    LARDER_ASSIGN(style.item_separator, text_argument(&bound[2]->list().items[0], ""));
    LARDER_ASSIGN(style.key_separator, text_argument(&bound[2]->list().items[1], ""));
    if (style.item_separator.size() + style.key_separator.size() > kMaxIndent) {
      return fail(Errc::invalid_argument, "separators longer than {} bytes", kMaxIndent);
    }
  }
  LARDER_ASSIGN(std::string text, to_json(input, style));
  return make_text(std::move(text), budget);
}

template <class T>
std::optional<T> parse(std::string_view text) {
  text = strip(text, Side::both, nullptr);
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

std::optional<std::int64_t> truncated(double x) {
  if (!(std::fabs(x) < 9.2e18)) return std::nullopt;
  return static_cast<std::int64_t>(x);
}

Result<Value> to_int(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(budget.step());
  LARDER_ASSIGN(const auto bound, arguments.bind({"default"}));
  std::optional<std::int64_t> value;
  if (input.is_integral()) {
    value = input.integral();
  } else if (input.is(Kind::real)) {
    value = truncated(input.real());
  } else if (input.is(Kind::text)) {
    value = parse<std::int64_t>(input.text());
    if (!value) {
      if (const auto real = parse<double>(input.text())) value = truncated(*real);
    }
  }
  if (value) return Value(*value);
  return bound[0] != nullptr ? *bound[0] : Value(std::int64_t{0});
}

Result<Value> to_float(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(budget.step());
  LARDER_ASSIGN(const auto bound, arguments.bind({"default"}));
  if (input.is_number()) return Value(input.number());
  if (input.is(Kind::text)) {
    if (const auto real = parse<double>(input.text())) return Value(*real);
  }
  return bound[0] != nullptr ? *bound[0] : Value(0.0);
}

Result<Value> absolute(const Value& input, const Arguments& arguments, Budget&) {
  LARDER_TRY(arguments.bind({}));
  if (!input.is_number()) return fail(Errc::invalid_argument, "of {}", input.describe());
  if (input.is(Kind::real)) return Value(std::fabs(input.real()));
  return input.integral() < 0 ? negate(input) : Result<Value>(Value(input.integral()));
}

Result<Value> round(const Value& input, const Arguments& arguments, Budget&) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"precision", "method"}));
  LARDER_ASSIGN(const std::int64_t precision, integer_argument(bound[0], 0));
  LARDER_ASSIGN(const std::string method, text_argument(bound[1], "common"));
  if (!input.is_number()) return fail(Errc::invalid_argument, "of {}", input.describe());
  if (precision < 0 || precision > 15) {
    return fail(Errc::invalid_argument, "precision {} is outside 0..15", precision);
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return Value(std::ceil(input.number() * scale) / scale);
  if (method == "floor") return Value(std::floor(input.number() * scale) / scale);
  if (method != "common") return fail(Errc::invalid_argument, "unknown method");
  if (input.is_integral()) return Value(input.integral());
  // Correct decimal rounding (ties to even on the exact value) is what printf does.
  return Value(std::strtod(fmt::format("{:.{}f}", input.number(), precision).c_str(), nullptr));
}

Result<Value> default_value(const Value& input, const Arguments& arguments, Budget&) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"default_value", "boolean"}));
  const bool replaces =
      input.is(Kind::undefined) || (flag_argument(bound[1], false) && !input.truthy());
  if (!replaces) return input;
  return bound[0] != nullptr ? *bound[0] : Value("");
}

}  // namespace

Filter find_text_filter(std::string_view name) noexcept {
  constexpr std::pair<std::string_view, Filter> kFilters[] = {
      {"abs", absolute},
      {"capitalize", mapped<capitalize>},
      {"d", default_value},
      {"default", default_value},
      {"float", to_float},
      {"indent", indent},
      {"int", to_int},
      {"lower", mapped<to_lower>},
      {"replace", replace},
      {"round", round},
      {"safe", string},
      {"string", string},
      {"title", mapped<title_phrase>},
      {"tojson", to_json_filter},
      {"trim", trim},
      {"upper", mapped<to_upper>},
  };
  for (const auto& [known, filter] : kFilters) {
    if (known == name) return filter;
  }
  return nullptr;
}

}  // namespace larder::jinja
