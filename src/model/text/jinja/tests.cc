// "value is name(arguments)": Jinja's tests, named as there.
#include <algorithm>

#include "model/text/jinja/filters.h"
#include "model/text/jinja/operators.h"
#include "model/text/jinja/unicode.h"

namespace larder::jinja {

namespace {

using Predicate = bool (*)(const Value& value);

bool is_sequence(const Value& v) {
  return v.is(Kind::text) || v.is(Kind::list) || v.is(Kind::dict) || v.is(Kind::undefined);
}

/// str.islower and str.isupper: some letter has the case, none has the other.
bool is_all(const Value& v, std::string (*map)(std::string_view)) {
  if (!v.is(Kind::text)) return false;
  const std::string& text = v.text();
  return map(text) == text && (to_lower(text) != text || to_upper(text) != text);
}

constexpr std::pair<std::string_view, Predicate> kPredicates[] = {
    {"boolean", [](const Value& v) { return v.is(Kind::boolean); }},
    {"callable", [](const Value& v) { return v.is(Kind::callable); }},
    {"defined", [](const Value& v) { return !v.is(Kind::undefined); }},
    {"false", [](const Value& v) { return v.is(Kind::boolean) && !v.boolean(); }},
    {"float", [](const Value& v) { return v.is(Kind::real); }},
    {"integer", [](const Value& v) { return v.is(Kind::integer); }},
    {"iterable", [](const Value& v) { return is_sequence(v) || v.is(Kind::loop); }},
    {"lower", [](const Value& v) { return is_all(v, to_lower); }},
    {"mapping", [](const Value& v) { return v.is(Kind::dict); }},
    {"none", [](const Value& v) { return v.is(Kind::none); }},
    {"number", [](const Value& v) { return v.is_number(); }},
    {"sequence", is_sequence},
    {"string", [](const Value& v) { return v.is(Kind::text); }},
    {"true", [](const Value& v) { return v.is(Kind::boolean) && v.boolean(); }},
    {"undefined", [](const Value& v) { return v.is(Kind::undefined); }},
    {"upper", [](const Value& v) { return is_all(v, to_upper); }},
};

constexpr std::pair<std::string_view, Op> kComparisons[] = {
    {"eq", Op::equal},      {"equalto", Op::equal},    {"==", Op::equal},
    {"ne", Op::not_equal},  {"!=", Op::not_equal},     {"lt", Op::less},
    {"lessthan", Op::less}, {"<", Op::less},           {"le", Op::less_equal},
    {"<=", Op::less_equal}, {"gt", Op::greater},       {"greaterthan", Op::greater},
    {">", Op::greater},     {"ge", Op::greater_equal}, {">=", Op::greater_equal},
    {"in", Op::in},
};

Result<bool> divisible(const Value& value, const Value& divisor, Budget& budget) {
  LARDER_ASSIGN(const Value rest, arithmetic(Op::modulo, value, divisor, budget));
  return !rest.truthy();
}

/// `is`: the same object, which for the constants of a template means equal and of one type.
Result<bool> same(const Value& a, const Value& b, Budget& budget) {
  if (a.kind() != b.kind()) return false;
  return equal(a, b, budget);
}

}  // namespace

Result<bool> apply_test(std::string_view name, const Value& input, const Arguments& arguments,
                        Budget& budget) {
  LARDER_TRY(budget.charge(input.is(Kind::text) ? input.text().size() / 16 : 1));
  for (const auto& [known, predicate] : kPredicates) {
    if (known != name) continue;
    LARDER_TRY(arguments.bind({}));
    return predicate(input);
  }
  for (const auto& [known, op] : kComparisons) {
    if (known != name) continue;
    LARDER_ASSIGN(const auto bound, arguments.bind({"other"}, 1));
    return compare(op, input, *bound[0], budget);
  }
  const Value two(std::int64_t{2});
  if (name == "even") return divisible(input, two, budget);
  if (name == "odd") {
    LARDER_ASSIGN(const bool even, divisible(input, two, budget));
    return !even;
  }
  if (name == "divisibleby" || name == "sameas") {
    LARDER_ASSIGN(const auto bound, arguments.bind({"other"}, 1));
    return name == "sameas" ? same(input, *bound[0], budget) : divisible(input, *bound[0], budget);
  }
  return fail(Errc::unsupported, "the test '{}' is not supported", name.substr(0, 40));
}

}  // namespace larder::jinja
