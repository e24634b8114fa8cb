#include "model/text/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "model/text/jinja/unicode.h"

namespace larder::jinja {

namespace {

tl::unexpected<Error> no_operator(std::string_view symbol, const Value& a, const Value& b) {
  return fail(Errc::invalid_argument, "cannot apply {} to {} and {}", symbol, a.describe(),
              b.describe());
}

std::string_view symbol_of(Op op) {
  switch (op) {
    case Op::add:
      return "+";
    case Op::subtract:
      return "-";
    case Op::multiply:
      return "*";
    case Op::divide:
      return "/";
    case Op::floor_divide:
      return "//";
    case Op::modulo:
      return "%";
    default:
      return "**";
  }
}

std::optional<std::int64_t> integer_power(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return std::nullopt;
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return std::nullopt;
  }
  return result;
}

/// Integers in, integer out; empty on overflow. REQUIRES: b != 0 for // and %.
std::optional<std::int64_t> integer_arithmetic(Op op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  switch (op) {
    case Op::add:
      return __builtin_add_overflow(a, b, &result) ? std::nullopt : std::optional(result);
    case Op::subtract:
      return __builtin_sub_overflow(a, b, &result) ? std::nullopt : std::optional(result);
    case Op::multiply:
      return __builtin_mul_overflow(a, b, &result) ? std::nullopt : std::optional(result);
    case Op::floor_divide:
      if (b == -1) return integer_arithmetic(Op::subtract, 0, a);
      return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
    case Op::modulo:
      if (b == -1) return 0;
      result = a % b;
      return result != 0 && (result < 0) != (b < 0) ? result + b : result;
    default:
      return integer_power(a, b);
  }
}

double real_arithmetic(Op op, double a, double b) {
  switch (op) {
    case Op::add:
      return a + b;
    case Op::subtract:
      return a - b;
    case Op::multiply:
      return a * b;
    case Op::divide:
      return a / b;
    case Op::floor_divide:
      return std::floor(a / b);
    case Op::modulo: {
      const double rest = std::fmod(a, b);
      return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
    }
    default:
      return std::pow(a, b);
  }
}

Result<Value> number_arithmetic(Op op, const Value& a, const Value& b) {
  const bool divides = op == Op::divide || op == Op::floor_divide || op == Op::modulo;
  if (divides && b.number() == 0) return fail(Errc::invalid_argument, "division by zero");
  const bool integers = a.is_integral() && b.is_integral() && op != Op::divide &&
                        !(op == Op::power && b.integral() < 0);
  if (!integers) return Value(real_arithmetic(op, a.number(), b.number()));
  const auto result = integer_arithmetic(op, a.integral(), b.integral());
  if (!result) {
    return fail(Errc::invalid_argument, "{} {} {} does not fit in 64 bits", a.integral(),
                symbol_of(op), b.integral());
  }
  return Value(*result);
}

Result<Value> repeated(const Value& sequence, std::int64_t n_times, Budget& budget) {
  const auto n = static_cast<std::uint64_t>(std::max<std::int64_t>(n_times, 0));
  if (sequence.is(Kind::text)) {
    const std::string& text = sequence.text();
    if (n == 0 || text.empty()) return Value("");
    LARDER_TRY(budget.text(n > kMaxTextBytes ? n : n * text.size()));
    std::string out;
    for (std::uint64_t i = 0; i < n; ++i) out += text;
    return Value(std::move(out));
  }
  const List& list = sequence.list();
  std::vector<Value> items;
  if (!list.items.empty()) {
    LARDER_TRY(budget.charge(n > kMaxWork ? n : n * list.items.size() * sizeof(Value)));
    for (std::uint64_t i = 0; i < n; ++i) {
      items.insert(items.end(), list.items.begin(), list.items.end());
    }
  }
  return make_list(std::move(items), budget, list.is_tuple);
}

Result<Value> joined(const Value& a, const Value& b, Budget& budget) {
  if (a.is(Kind::text)) {
    LARDER_TRY(budget.text(a.text().size() + b.text().size()));
    return Value(a.text() + b.text());
  }
  const std::size_t size = a.list().items.size() + b.list().items.size();
  LARDER_TRY(budget.charge(size * sizeof(Value)));
  std::vector<Value> items = a.list().items;
  items.insert(items.end(), b.list().items.begin(), b.list().items.end());
  return make_list(std::move(items), budget, a.list().is_tuple);
}

Result<bool> contains(const Value& container, const Value& item, Budget& budget) {
  if (container.is(Kind::undefined)) return false;
  if (container.is(Kind::dict)) {
    LARDER_TRY(budget.charge(container.dict().entries.size()));
    return item.is(Kind::text) && container.dict().find(item.text()) != nullptr;
  }
  if (container.is(Kind::list)) {
    for (const Value& element : container.list().items) {
      LARDER_ASSIGN(const bool same, equal(element, item, budget));
      if (same) return true;
    }
    return false;
  }
  if (container.is(Kind::text) && item.is(Kind::text)) {
    LARDER_TRY(budget.charge(container.text().size()));
    return container.text().find(item.text()) != std::string::npos;
  }
  return no_operator("in", item, container);
}

Result<bool> equal_lists(const List& a, const List& b, Budget& budget) {
  if (a.is_tuple != b.is_tuple || a.items.size() != b.items.size()) return false;
  for (std::size_t i = 0; i < a.items.size(); ++i) {
    LARDER_ASSIGN(const bool same, equal(a.items[i], b.items[i], budget));
    if (!same) return false;
  }
  return true;
}

Result<bool> equal_dicts(const Dict& a, const Dict& b, Budget& budget) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    LARDER_TRY(budget.charge(b.entries.size()));
    const Value* other = b.find(key);
    if (other == nullptr) return false;
    LARDER_ASSIGN(const bool same, equal(value, *other, budget));
    if (!same) return false;
  }
  return true;
}

}  // namespace

Result<Value> arithmetic(Op op, const Value& a, const Value& b, Budget& budget) {
  if (a.is_number() && b.is_number()) return number_arithmetic(op, a, b);
  const auto is_sequence = [](const Value& v) { return v.is(Kind::text) || v.is(Kind::list); };
  if (op == Op::multiply && is_sequence(a) && b.is_integral()) {
    return repeated(a, b.integral(), budget);
  }
  if (op == Op::multiply && is_sequence(b) && a.is_integral()) {
    return repeated(b, a.integral(), budget);
  }
  const bool alike = is_sequence(a) && a.kind() == b.kind() &&
                     (a.is(Kind::text) || a.list().is_tuple == b.list().is_tuple);
  if (op == Op::add && alike) return joined(a, b, budget);
  if (op == Op::modulo && a.is(Kind::text)) {
    return fail(Errc::unsupported, "formatting with % is not supported");
  }
  return no_operator(symbol_of(op), a, b);
}

Result<Value> negate(const Value& a) {
  if (a.is(Kind::real)) return Value(-a.real());
  if (a.is_integral()) return number_arithmetic(Op::subtract, Value(std::int64_t{0}), a);
  return fail(Errc::invalid_argument, "cannot negate {}", a.describe());
}

Result<bool> equal(const Value& a, const Value& b, Budget& budget) {
  LARDER_TRY(budget.step());
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.integral() == b.integral();
    return a.number() == b.number();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::undefined:
    case Kind::none:
      return true;
    case Kind::text:
      LARDER_TRY(budget.charge(std::min(a.text().size(), b.text().size()) / 16));
      return a.text() == b.text();
    case Kind::list:
      return equal_lists(a.list(), b.list(), budget);
    case Kind::dict:
      return equal_dicts(a.dict(), b.dict(), budget);
    case Kind::space:
      return &a.space() == &b.space();
    case Kind::loop:
      return &a.loop() == &b.loop();
    default:
      return a.callable().macro == b.callable().macro && a.callable().name == b.callable().name;
  }
}

Result<int> order(const Value& a, const Value& b, Budget& budget) {
  LARDER_TRY(budget.step());
  if (a.is_integral() && b.is_integral()) {
    return a.integral() < b.integral() ? -1 : a.integral() > b.integral() ? 1 : 0;
  }
  if (a.is_number() && b.is_number()) {
    return a.number() < b.number() ? -1 : a.number() > b.number() ? 1 : 0;
  }
  if (a.is(Kind::text) && b.is(Kind::text)) {
    LARDER_TRY(budget.charge(std::min(a.text().size(), b.text().size()) / 16));
    const int c = a.text().compare(b.text());
    return c < 0 ? -1 : c > 0 ? 1 : 0;
  }
  return fail(Errc::invalid_argument, "{} and {} have no order", a.describe(), b.describe());
}

Result<bool> compare(Op op, const Value& a, const Value& b, Budget& budget) {
  if (op == Op::in || op == Op::not_in) {
    LARDER_ASSIGN(const bool inside, contains(b, a, budget));
    return inside == (op == Op::in);
  }
  if (op == Op::equal || op == Op::not_equal) {
    LARDER_ASSIGN(const bool same, equal(a, b, budget));
    return same == (op == Op::equal);
  }
  LARDER_ASSIGN(const int sign, order(a, b, budget));
  const bool nan =
      (a.is(Kind::real) && std::isnan(a.real())) || (b.is(Kind::real) && std::isnan(b.real()));
  if (nan) return false;
  if (op == Op::less) return sign < 0;
  if (op == Op::less_equal) return sign <= 0;
  return op == Op::greater ? sign > 0 : sign >= 0;
}

}  // namespace larder::jinja
