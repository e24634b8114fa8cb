#include "model/text/jinja/methods.h"

#include <algorithm>

#include "model/text/jinja/filters.h"
#include "model/text/jinja/operators.h"
#include "model/text/jinja/text_functions.h"
#include "model/text/jinja/unicode.h"

namespace larder::jinja {

namespace {

using Method = Result<Value> (*)(const Value& self, const Arguments& arguments, Budget& budget);

template <Side side>
Result<Value> strip_method(const Value& self, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"chars"}));
  LARDER_ASSIGN(const std::string chars, text_argument(bound[0], ""));
  const bool blanks = bound[0] == nullptr || bound[0]->is(Kind::none);
  LARDER_TRY(budget.charge(self.text().size() * (1 + chars.size())));
  return make_text(std::string(strip(self.text(), side, blanks ? nullptr : &chars)), budget);
}

template <bool from_right>
Result<Value> split_method(const Value& self, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"sep", "maxsplit"}));
  LARDER_ASSIGN(const std::string separator, text_argument(bound[0], ""));
  LARDER_ASSIGN(const std::int64_t limit, integer_argument(bound[1], -1));
  const bool words = bound[0] == nullptr || bound[0]->is(Kind::none);
  return split_text(self.text(), words ? nullptr : &separator, limit, from_right, budget);
}

template <bool at_start>
Result<Value> affix_method(const Value& self, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"affix"}, 1));
  std::vector<Value> affixes{*bound[0]};
  if (bound[0]->is(Kind::list) && bound[0]->list().is_tuple) affixes = bound[0]->list().items;
  for (const Value& affix : affixes) {
    LARDER_TRY(budget.step());
    LARDER_ASSIGN(const std::string text, text_argument(&affix, ""));
    const std::string_view whole = self.text();
    if (at_start ? whole.starts_with(text) : whole.ends_with(text)) return Value(true);
  }
  return Value(false);
}

template <bool at_start>
Result<Value> remove_affix(const Value& self, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"affix"}, 1));
  LARDER_ASSIGN(const std::string affix, text_argument(bound[0], ""));
  std::string_view text = self.text();
  if (at_start && text.starts_with(affix)) text.remove_prefix(affix.size());
  if (!at_start && text.ends_with(affix)) text.remove_suffix(affix.size());
  return make_text(std::string(text), budget);
}

template <std::string (*map)(std::string_view)>
Result<Value> mapped_method(const Value& self, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(arguments.bind({}));
  LARDER_TRY(budget.text(self.text().size()));
  return Value(map(self.text()));
}

Result<Value> replace_method(const Value& self, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"old", "new", "count"}, 2));
  LARDER_ASSIGN(const std::string from, text_argument(bound[0], ""));
  LARDER_ASSIGN(const std::string to, text_argument(bound[1], ""));
  LARDER_ASSIGN(const std::int64_t count, integer_argument(bound[2], -1));
  return replace_text(self.text(), from, to, count, budget);
}

template <bool last>
Result<Value> find_text_method(const Value& self, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"sub"}, 1));
  LARDER_ASSIGN(const std::string part, text_argument(bound[0], ""));
  LARDER_TRY(budget.charge(2 * self.text().size()));
  const auto at = last ? self.text().rfind(part) : self.text().find(part);
  if (at == std::string::npos) return Value(std::int64_t{-1});
  const std::string_view before = std::string_view(self.text()).substr(0, at);
  return Value(static_cast<std::int64_t>(count_characters(before)));
}

Result<Value> count_method(const Value& self, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"sub"}, 1));
  std::int64_t n = 0;
  if (self.is(Kind::list)) {
    for (const Value& item : self.list().items) {
      LARDER_ASSIGN(const bool same, equal(item, *bound[0], budget));
      n += same ? 1 : 0;
    }
    return Value(n);
  }
  LARDER_ASSIGN(const std::string part, text_argument(bound[0], ""));
  LARDER_TRY(budget.charge(self.text().size()));
  if (part.empty()) return Value(static_cast<std::int64_t>(count_characters(self.text()) + 1));
  for (auto at = self.text().find(part); at != std::string::npos;
       at = self.text().find(part, at + part.size())) {
    ++n;
  }
  return Value(n);
}

Result<Value> join_method(const Value& self, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"iterable"}, 1));
  LARDER_ASSIGN(const auto items, elements_of(*bound[0], budget));
  for (const Value& item : items->items) {
    LARDER_TRY(budget.step());
    LARDER_TRY(text_argument(item.is(Kind::none) ? bound[0] : &item, ""));
  }
  return join_texts(self.text(), items->items, budget);
}

Result<Value> split_lines_method(const Value& self, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(arguments.bind({}));
  LARDER_TRY(budget.charge(self.text().size() * 2 * sizeof(Value)));
  std::vector<Value> lines;
  for (const std::string_view line : split_lines(self.text())) lines.emplace_back(line);
  return make_list(std::move(lines), budget);
}

Result<Value> is_digit_method(const Value& self, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(arguments.bind({}));
  LARDER_TRY(budget.charge(self.text().size()));
  const std::string& text = self.text();
  return Value(!text.empty() &&
               std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }));
}

Result<Value> get_method(const Value& self, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"key", "default"}, 1));
  LARDER_ASSIGN(Value found, item_of(self, *bound[0], budget));
  if (!found.is(Kind::undefined)) return found;
  return bound[1] != nullptr ? *bound[1] : Value(None{});
}

template <bool keys>
Result<Value> side_method(const Value& self, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(arguments.bind({}));
  std::vector<Value> out;
  for (const auto& [key, value] : self.dict().entries) {
    LARDER_TRY(budget.text(key.size() + sizeof(Value)));
    out.push_back(keys ? Value(key) : value);
  }
  return make_list(std::move(out), budget);
}

Result<Value> items_method(const Value& self, const Arguments& arguments, Budget& budget) {
  return apply_filter("items", self, arguments, budget);
}

Result<Value> copy_method(const Value& self, const Arguments& arguments, Budget&) {
  LARDER_TRY(arguments.bind({}));
  return self;  // values never change, so sharing is copying
}

struct Entry {
  Kind kind;
  std::string_view name;
  Method method;
};

constexpr Entry kMethods[] = {
    {Kind::text, "capitalize", mapped_method<capitalize>},
    {Kind::text, "count", count_method},
    {Kind::text, "endswith", affix_method<false>},
    {Kind::text, "find", find_text_method<false>},
    {Kind::text, "isdigit", is_digit_method},
    {Kind::text, "join", join_method},
    {Kind::text, "lower", mapped_method<to_lower>},
    {Kind::text, "lstrip", strip_method<Side::left>},
    {Kind::text, "removeprefix", remove_affix<true>},
    {Kind::text, "removesuffix", remove_affix<false>},
    {Kind::text, "replace", replace_method},
    {Kind::text, "rfind", find_text_method<true>},
    {Kind::text, "rsplit", split_method<true>},
    {Kind::text, "rstrip", strip_method<Side::right>},
    {Kind::text, "split", split_method<false>},
    {Kind::text, "splitlines", split_lines_method},
    {Kind::text, "startswith", affix_method<true>},
    {Kind::text, "strip", strip_method<Side::both>},
    {Kind::text, "title", mapped_method<title_words>},
    {Kind::text, "upper", mapped_method<to_upper>},
    {Kind::list, "copy", copy_method},
    {Kind::list, "count", count_method},
    {Kind::dict, "copy", copy_method},
    {Kind::dict, "get", get_method},
    {Kind::dict, "items", items_method},
    {Kind::dict, "keys", side_method<true>},
    {Kind::dict, "values", side_method<false>},
};

const Entry* find_entry(Kind kind, std::string_view name) noexcept {
  const auto it = std::find_if(std::begin(kMethods), std::end(kMethods),
                               [&](const Entry& e) { return e.kind == kind && e.name == name; });
  return it == std::end(kMethods) ? nullptr : it;
}

}  // namespace

std::string_view find_method(const Value& object, std::string_view name) noexcept {
  const Entry* entry = find_entry(object.kind(), name);
  return entry == nullptr ? std::string_view() : entry->name;
}

Result<Value> call_method(const Value& object, std::string_view name, const Arguments& arguments,
                          Budget& budget) {
  const Entry* entry = find_entry(object.kind(), name);
  auto result = entry->method(object, arguments, budget);
  if (!result) return fail(result.error().code, "{}(): {}", name, result.error().message);
  return result;
}

}  // namespace larder::jinja
