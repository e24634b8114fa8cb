// Subscripts, slices, lengths and iteration: the part of operators.h about containers.
#include <algorithm>
#include <optional>

#include "model/text/jinja/operators.h"
#include "model/text/jinja/unicode.h"

namespace larder::jinja {

namespace {

/// The position Python's index means, if it is inside.
std::optional<std::size_t> position(std::int64_t index, std::size_t size) {
  const auto n = static_cast<std::int64_t>(size);
  if (index < 0) index += n;
  if (index < 0 || index >= n) return std::nullopt;
  return static_cast<std::size_t>(index);
}

struct Range {
  std::int64_t start, stop, step;
};

/// slice.indices(size).
Result<Range> resolve(const Value (&bounds)[3], std::size_t size) {
  const auto absent = [](const Value& v) { return v.is(Kind::none) || v.is(Kind::undefined); };
  for (const Value& bound : bounds) {
    if (!absent(bound) && !bound.is_integral()) {
      return fail(Errc::invalid_argument, "a slice bound is {}", bound.describe());
    }
  }
  const auto n = static_cast<std::int64_t>(size);
  Range range{0, 0, absent(bounds[2]) ? 1 : bounds[2].integral()};
  if (range.step == 0) return fail(Errc::invalid_argument, "a slice has step 0");
  // More than the whole sequence steps out of it anyway, and so cannot overflow.
  range.step = std::clamp(range.step, -n - 1, n + 1);
  const std::int64_t low = range.step > 0 ? 0 : -1;
  const std::int64_t high = range.step > 0 ? n : n - 1;
  const auto bound = [&](const Value& v, std::int64_t otherwise) {
    if (absent(v)) return otherwise;
    const std::int64_t i = v.integral() < 0 ? v.integral() + n : v.integral();
    return std::clamp(i, low, high);
  };
  range.start = bound(bounds[0], range.step > 0 ? low : high);
  range.stop = bound(bounds[1], range.step > 0 ? high : low);
  return range;
}

template <class F>
void for_each_index(const Range& range, F&& f) {
  for (std::int64_t i = range.start; range.step > 0 ? i < range.stop : i > range.stop;
       i += range.step) {
    f(static_cast<std::size_t>(i));
  }
}

}  // namespace

Result<Value> item_of(const Value& object, const Value& key, Budget& budget) {
  const auto absent = [&] {
    return Value::undefined(key.is(Kind::text) ? key.text().substr(0, 80) : "element");
  };
  switch (object.kind()) {
    case Kind::undefined:
      return fail(Errc::invalid_argument, "{} has no elements", object.describe());
    case Kind::dict: {
      LARDER_TRY(budget.charge(object.dict().entries.size()));
      const Value* found = key.is(Kind::text) ? object.dict().find(key.text()) : nullptr;
      return found != nullptr ? *found : absent();
    }
    case Kind::space: {
      LARDER_TRY(budget.charge(object.space().fields.entries.size()));
      const Value* found = key.is(Kind::text) ? object.space().fields.find(key.text()) : nullptr;
      return found != nullptr ? *found : absent();
    }
    case Kind::list: {
      if (!key.is_integral()) return absent();
      const auto i = position(key.integral(), object.list().items.size());
      return i ? object.list().items[*i] : absent();
    }
    case Kind::text: {
      if (!key.is_integral()) return absent();
      const std::string& text = object.text();
      LARDER_TRY(budget.charge(text.size()));
      const auto i = position(key.integral(), count_characters(text));
      if (!i) return absent();
      std::size_t offset = 0;
      for (std::size_t n = 0; n < *i; ++n) offset += character_at(text, offset).size;
      return Value(text.substr(offset, character_at(text, offset).size));
    }
    default:
      return absent();
  }
}

Result<Value> slice_of(const Value& object, const Value (&bounds)[3], Budget& budget) {
  if (object.is(Kind::list)) {
    const List& list = object.list();
    LARDER_ASSIGN(const Range range, resolve(bounds, list.items.size()));
    std::vector<Value> items;
    LARDER_TRY(budget.charge(list.items.size() * sizeof(Value)));
    for_each_index(range, [&](std::size_t i) { items.push_back(list.items[i]); });
    return make_list(std::move(items), budget, list.is_tuple);
  }
  if (object.is(Kind::text)) {
    const std::string& text = object.text();
    LARDER_TRY(budget.charge(text.size() * sizeof(std::size_t)));
    const auto offsets = character_offsets(text);
    LARDER_ASSIGN(const Range range, resolve(bounds, offsets.size() - 1));
    std::string out;
    for_each_index(
        range, [&](std::size_t i) { out.append(text, offsets[i], offsets[i + 1] - offsets[i]); });
    return make_text(std::move(out), budget);
  }
  if (object.is(Kind::undefined)) {
    return fail(Errc::invalid_argument, "{} has no elements", object.describe());
  }
  return Value::undefined("slice");
}

Result<std::shared_ptr<const List>> elements_of(const Value& object, Budget& budget) {
  if (object.is(Kind::list)) return object.shared_list();
  auto list = std::make_shared<List>();
  if (object.is(Kind::dict)) {
    for (const auto& [key, value] : object.dict().entries) {
      LARDER_TRY(budget.text(sizeof(Value) + key.size()));
      list->items.emplace_back(key);
    }
  } else if (object.is(Kind::text)) {
    const std::string& text = object.text();
    LARDER_TRY(budget.charge(text.size() * 2 * sizeof(Value)));
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t size = character_at(text, i).size;
      list->items.emplace_back(text.substr(i, size));
      i += size;
    }
  } else if (!object.is(Kind::undefined)) {
    return fail(Errc::invalid_argument, "{} is not iterable", object.describe());
  }
  return list;
}

Result<std::int64_t> length_of(const Value& object, Budget& budget) {
  switch (object.kind()) {
    case Kind::undefined:
      return 0;
    case Kind::text:
      LARDER_TRY(budget.charge(object.text().size()));
      return static_cast<std::int64_t>(count_characters(object.text()));
    case Kind::list:
      return static_cast<std::int64_t>(object.list().items.size());
    case Kind::dict:
      return static_cast<std::int64_t>(object.dict().entries.size());
    case Kind::loop:
      return static_cast<std::int64_t>(object.loop().items->items.size());
    default:
      return fail(Errc::invalid_argument, "{} has no length", object.describe());
  }
}

}  // namespace larder::jinja
