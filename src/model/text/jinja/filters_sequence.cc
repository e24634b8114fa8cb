#include <algorithm>
#include <charconv>
#include <optional>

#include "model/text/jinja/filters.h"
#include "model/text/jinja/operators.h"
#include "model/text/jinja/text_functions.h"
#include "model/text/jinja/unicode.h"

namespace larder::jinja {

namespace {

using Items = std::shared_ptr<const List>;

Result<Value> length(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(arguments.bind({}));
  LARDER_ASSIGN(const std::int64_t n, length_of(input, budget));
  return Value(n);
}

Result<Value> first(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(arguments.bind({}));
  LARDER_ASSIGN(const Items items, elements_of(input, budget));
  return items->items.empty() ? Value::undefined("first") : items->items.front();
}

Result<Value> last(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(arguments.bind({}));
  LARDER_ASSIGN(const Items items, elements_of(input, budget));
  return items->items.empty() ? Value::undefined("last") : items->items.back();
}

Result<Value> list(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(arguments.bind({}));
  LARDER_ASSIGN(const Items items, elements_of(input, budget));
  LARDER_TRY(budget.charge(items->items.size() * sizeof(Value)));
  return make_list(items->items, budget);
}

Result<Value> items(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(arguments.bind({}));
  std::vector<Value> pairs;
  if (!input.is(Kind::dict) && !input.is(Kind::undefined)) {
    return fail(Errc::invalid_argument, "{} is not a dict", input.describe());
  }
  if (input.is(Kind::dict)) {
    for (const auto& [key, value] : input.dict().entries) {
      LARDER_TRY(budget.charge(key.size() + sizeof(List)));
      LARDER_ASSIGN(Value pair, make_list({Value(key), value}, budget, true));
      pairs.push_back(std::move(pair));
    }
  }
  return make_list(std::move(pairs), budget);
}

Result<Value> join(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"d", "attribute"}));
  LARDER_ASSIGN(const std::string separator, text_argument(bound[0], ""));
  LARDER_ASSIGN(const Items items, elements_of(input, budget));
  if (bound[1] == nullptr) return join_texts(separator, items->items, budget);
  std::vector<Value> parts;
  for (const Value& item : items->items) {
    LARDER_ASSIGN(Value part, attribute_at(item, *bound[1], budget));
    parts.push_back(std::move(part));
  }
  return join_texts(separator, parts, budget);
}

Result<Value> reverse(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_TRY(arguments.bind({}));
  LARDER_ASSIGN(const Items items, elements_of(input, budget));
  LARDER_TRY(budget.charge(items->items.size() * sizeof(Value)));
  std::vector<Value> reversed(items->items.rbegin(), items->items.rend());
  if (input.is(Kind::text)) return join_texts("", reversed, budget);
  return make_list(std::move(reversed), budget);
}

/// map(attribute="x", default=...) or map("filter", its arguments).
Result<Value> map(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const Items items, elements_of(input, budget));
  std::vector<Value> out;
  if (arguments.positional.empty()) {
    LARDER_ASSIGN(const auto bound, arguments.bind({"attribute", "default"}, 1));
    for (const Value& item : items->items) {
      LARDER_ASSIGN(Value value, attribute_at(item, *bound[0], budget));
      if (value.is(Kind::undefined) && bound[1] != nullptr) value = *bound[1];
      out.push_back(std::move(value));
    }
  } else {
    LARDER_ASSIGN(const std::string name, text_argument(arguments.positional.data(), ""));
    Arguments rest = arguments;
    rest.positional.erase(rest.positional.begin());
    for (const Value& item : items->items) {
      LARDER_TRY(budget.step());
      LARDER_ASSIGN(Value value, apply_filter(name, item, rest, budget));
      out.push_back(std::move(value));
    }
  }
  return make_list(std::move(out), budget);
}

/// select, reject, selectattr and rejectattr: ([attribute,] [test, its arguments]).
template <bool keeps, bool takes_attribute>
Result<Value> select(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const Items items, elements_of(input, budget));
  constexpr std::size_t kTest = takes_attribute ? 1 : 0;
  const auto& given = arguments.positional;
  if (given.size() < kTest) return fail(Errc::invalid_argument, "the attribute is missing");
  const bool has_test = given.size() > kTest;
  LARDER_ASSIGN(const std::string test, text_argument(has_test ? &given[kTest] : nullptr, ""));
  Arguments rest;
  rest.named = arguments.named;
  if (has_test) rest.positional.assign(given.begin() + kTest + 1, given.end());
  std::vector<Value> out;
  for (const Value& item : items->items) {
    LARDER_TRY(budget.step());
    Value subject = item;
    if (takes_attribute) {
      LARDER_ASSIGN(subject, attribute_at(item, given[0], budget));
    }
    bool passes = subject.truthy();
    if (has_test) {
      LARDER_ASSIGN(passes, apply_test(test, subject, rest, budget));
    }
    if (passes == keeps) out.push_back(item);
  }
  return make_list(std::move(out), budget);
}

/// What an item is compared by: its attribute, in lower case unless `case_sensitive`.
Result<Value> key_of(const Value& item, const Value* attribute, bool case_sensitive,
                     Budget& budget) {
  Value key = item;
  if (attribute != nullptr && !attribute->is(Kind::none)) {
    LARDER_ASSIGN(key, attribute_at(item, *attribute, budget));
  }
  if (!case_sensitive && key.is(Kind::text)) {
    LARDER_TRY(budget.text(key.text().size()));
    return Value(to_lower(key.text()));
  }
  return key;
}

struct Keyed {
  Value key, item;
};

/// Stable. A pair without an order ends the sorting with its error.
Result<void> sort_by_key(std::vector<Keyed>& keyed, bool reverse, Budget& budget) {
  std::optional<Error> error;
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    if (error) return false;
    const auto sign = reverse ? order(b.key, a.key, budget) : order(a.key, b.key, budget);
    if (!sign) error = sign.error();
    return sign && *sign < 0;
  });
  if (error) return tl::unexpected<Error>(*error);
  return {};
}

Result<Value> sorted(std::vector<Keyed> keyed, bool reverse, Budget& budget) {
  LARDER_TRY(sort_by_key(keyed, reverse, budget));
  std::vector<Value> out;
  out.reserve(keyed.size());
  for (Keyed& entry : keyed) out.push_back(std::move(entry.item));
  return make_list(std::move(out), budget);
}

Result<Value> sort(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"reverse", "case_sensitive", "attribute"}));
  LARDER_ASSIGN(const Items items, elements_of(input, budget));
  std::vector<Keyed> keyed;
  for (const Value& item : items->items) {
    LARDER_TRY(budget.step());
    LARDER_ASSIGN(Value key, key_of(item, bound[2], flag_argument(bound[1], false), budget));
    keyed.push_back({std::move(key), item});
  }
  return sorted(std::move(keyed), flag_argument(bound[0], false), budget);
}

Result<Value> dict_sort(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"case_sensitive", "by", "reverse"}));
  LARDER_ASSIGN(const std::string by, text_argument(bound[1], "key"));
  if (by != "key" && by != "value") return fail(Errc::invalid_argument, "by is 'key' or 'value'");
  if (!input.is(Kind::dict)) return fail(Errc::invalid_argument, "of {}", input.describe());
  LARDER_ASSIGN(const Value pairs, items(input, {}, budget));
  std::vector<Keyed> keyed;
  for (const Value& pair : pairs.list().items) {
    const Value& subject = pair.list().items[by == "key" ? 0 : 1];
    LARDER_ASSIGN(Value key, key_of(subject, nullptr, flag_argument(bound[0], false), budget));
    keyed.push_back({std::move(key), pair});
  }
  return sorted(std::move(keyed), flag_argument(bound[2], false), budget);
}

Result<Value> unique(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"case_sensitive", "attribute"}));
  LARDER_ASSIGN(const Items items, elements_of(input, budget));
  std::vector<Value> keys, out;
  for (const Value& item : items->items) {
    LARDER_ASSIGN(Value key, key_of(item, bound[1], flag_argument(bound[0], false), budget));
    bool seen = false;
    for (const Value& other : keys) {
      LARDER_ASSIGN(seen, equal(other, key, budget));
      if (seen) break;
    }
    if (seen) continue;
    keys.push_back(std::move(key));
    out.push_back(item);
  }
  return make_list(std::move(out), budget);
}

template <bool smallest>
Result<Value> extreme(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"case_sensitive", "attribute"}));
  LARDER_ASSIGN(const Items items, elements_of(input, budget));
  if (items->items.empty()) return Value::undefined("item");
  Value best, best_key;
  for (const Value& item : items->items) {
    LARDER_ASSIGN(Value key, key_of(item, bound[1], flag_argument(bound[0], false), budget));
    if (&item != items->items.data()) {
      LARDER_ASSIGN(const int sign, order(key, best_key, budget));
      if (smallest ? sign >= 0 : sign <= 0) continue;
    }
    best = item;
    best_key = std::move(key);
  }
  return best;
}

Result<Value> sum(const Value& input, const Arguments& arguments, Budget& budget) {
  LARDER_ASSIGN(const auto bound, arguments.bind({"attribute", "start"}));
  LARDER_ASSIGN(const Items items, elements_of(input, budget));
  Value total = bound[1] != nullptr ? *bound[1] : Value(std::int64_t{0});
  for (const Value& item : items->items) {
    LARDER_TRY(budget.step());
    Value term = item;
    if (bound[0] != nullptr && !bound[0]->is(Kind::none)) {
      LARDER_ASSIGN(term, attribute_at(item, *bound[0], budget));
    }
    LARDER_ASSIGN(total, arithmetic(Op::add, total, term, budget));
  }
  return total;
}

}  // namespace

Result<Value> attribute_at(const Value& object, const Value& path, Budget& budget) {
  LARDER_TRY(budget.step());
  if (!path.is(Kind::text)) return item_of(object, path, budget);
  Value value = object;
  std::string_view rest = path.text();
  for (bool more = true; more;) {
    LARDER_TRY(budget.step());
    const std::size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    more = dot != std::string_view::npos;
    if (more) rest.remove_prefix(dot + 1);
    std::int64_t index = 0;
    const char* end = part.data() + part.size();
    const bool digits =
        !part.empty() && part[0] != '-' && std::from_chars(part.data(), end, index).ptr == end;
    LARDER_ASSIGN(value, item_of(value, digits ? Value(index) : Value(part), budget));
  }
  return value;
}

Filter find_sequence_filter(std::string_view name) noexcept {
  constexpr std::pair<std::string_view, Filter> kFilters[] = {
      {"count", length},
      {"dictsort", dict_sort},
      {"first", first},
      {"items", items},
      {"join", join},
      {"last", last},
      {"length", length},
      {"list", list},
      {"map", map},
      {"max", extreme<false>},
      {"min", extreme<true>},
      {"reject", select<false, false>},
      {"rejectattr", select<false, true>},
      {"reverse", reverse},
      {"select", select<true, false>},
      {"selectattr", select<true, true>},
      {"sort", sort},
      {"sum", sum},
      {"unique", unique},
  };
  for (const auto& [known, filter] : kFilters) {
    if (known == name) return filter;
  }
  return nullptr;
}

}  // namespace larder::jinja
