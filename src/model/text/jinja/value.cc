#include "model/text/jinja/value.h"

#include <algorithm>

namespace larder::jinja {

Value::Value(const Value& other) = default;
Value::Value(Value&& other) noexcept = default;
Value& Value::operator=(const Value& other) = default;
Value& Value::operator=(Value&& other) noexcept = default;
Value::~Value() = default;

Value Value::undefined(std::string_view name) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(name)};
  return value;
}

bool Value::is_integral() const noexcept { return is(Kind::boolean) || is(Kind::integer); }
bool Value::is_number() const noexcept { return is_integral() || is(Kind::real); }

std::int64_t Value::integral() const {
  return is(Kind::boolean) ? static_cast<std::int64_t>(boolean()) : std::get<std::int64_t>(data_);
}

double Value::number() const { return is(Kind::real) ? real() : static_cast<double>(integral()); }

bool Value::truthy() const {
  switch (kind()) {
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
      return boolean();
    case Kind::integer:
      return integral() != 0;
    case Kind::real:
      return real() != 0;
    case Kind::text:
      return !text().empty();
    case Kind::list:
      return !list().items.empty();
    case Kind::dict:
      return !dict().entries.empty();
    case Kind::space:
    case Kind::loop:
    case Kind::callable:
      return true;
  }
  return false;
}

std::uint32_t Value::depth() const {
  if (is(Kind::list)) return list().depth;
  if (is(Kind::dict)) return dict().depth;
  return 0;
}

std::string Value::describe() const {
  switch (kind()) {
    case Kind::undefined: {
      const auto& name = std::get<Undefined>(data_).name;
      return name ? fmt::format("the undefined value '{}'", *name) : "an undefined value";
    }
    case Kind::none:
      return "None";
    case Kind::boolean:
      return "a bool";
    case Kind::integer:
      return "an int";
    case Kind::real:
      return "a float";
    case Kind::text:
      return "a str";
    case Kind::list:
      return list().is_tuple ? "a tuple" : "a list";
    case Kind::dict:
      return "a dict";
    case Kind::space:
      return "a namespace";
    case Kind::loop:
      return "the loop variable";
    case Kind::callable:
      return "a function";
  }
  return "a value";
}

const Value* Dict::find(std::string_view key) const noexcept {
  const auto it = std::find_if(entries.begin(), entries.end(),
                               [&](const auto& entry) { return entry.first == key; });
  return it == entries.end() ? nullptr : &it->second;
}

void Dict::set(std::string_view key, Value value) {
  const auto it = std::find_if(entries.begin(), entries.end(),
                               [&](const auto& entry) { return entry.first == key; });
  if (it == entries.end()) {
    entries.emplace_back(key, std::move(value));
  } else {
    it->second = std::move(value);
  }
}

Result<Value> make_text(std::string text, Budget& budget) {
  LARDER_TRY(budget.text(text.size()));
  return Value(std::move(text));
}

namespace {

Result<std::uint32_t> depth_above(std::uint32_t deepest) {
  if (deepest >= kMaxValueDepth) {
    return fail(Errc::invalid_argument, "nests lists or dicts more than {} deep", kMaxValueDepth);
  }
  return deepest + 1;
}

}  // namespace

Result<Value> make_list(std::vector<Value> items, Budget& budget, bool is_tuple) {
  LARDER_TRY(budget.charge(items.size() * sizeof(Value)));
  List list{std::move(items), is_tuple, 1};
  std::uint32_t deepest = 0;
  for (const Value& item : list.items) deepest = std::max(deepest, item.depth());
  LARDER_ASSIGN(list.depth, depth_above(deepest));
  return Value(std::make_shared<const List>(std::move(list)));
}

Result<Value> make_dict(Dict dict, Budget& budget) {
  LARDER_TRY(budget.charge(dict.entries.size() * sizeof(dict.entries[0])));
  std::uint32_t deepest = 0;
  for (const auto& entry : dict.entries) deepest = std::max(deepest, entry.second.depth());
  LARDER_ASSIGN(dict.depth, depth_above(deepest));
  return Value(std::make_shared<const Dict>(std::move(dict)));
}

}  // namespace larder::jinja
