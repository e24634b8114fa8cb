// Values of a template: what Python's None, bool, int, float, str, list, tuple and dict are there.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "larder/result.h"
#include "model/text/jinja/budget.h"

namespace larder::jinja {

class Value;
struct Statement;

/// In the order of Value's variant.
enum class Kind : std::uint8_t {
  undefined,
  none,
  boolean,
  integer,
  real,
  text,
  list,
  dict,
  space,
  loop,
  callable
};

struct Undefined {
  std::shared_ptr<const std::string> name;  // what was looked up, for messages; may be null
};
struct None {};

/// A list or a tuple. Immutable once it is part of a Value, as are dicts: values form no cycles.
struct List;
struct Dict;

/// The only mutable object, namespace(...). Values point to it; the interpreter owns it, so that a
/// namespace holding itself is no leak.
struct Namespace;

/// What `loop` is inside a for statement; `index` moves with the loop.
struct LoopState;

/// A macro, a global function, or a method taken without a call.
struct Callable {
  const Statement* macro = nullptr;
  std::string_view name;  // of a macro: in the template; otherwise: a literal
};

/// A small handle: copying shares. Not thread-safe (one rendering owns all of its values).
class Value {
 public:
  Value() = default;  // undefined
  // Out of line: inlined, the moves of the variant make GCC 12 warn of uninitialised members.
  Value(const Value& other);
  Value(Value&& other) noexcept;
  Value& operator=(const Value& other);
  Value& operator=(Value&& other) noexcept;
  ~Value();
  explicit Value(None) : data_(None{}) {}
  explicit Value(bool b) : data_(b) {}
  explicit Value(std::int64_t i) : data_(i) {}
  explicit Value(double d) : data_(d) {}
  explicit Value(std::string text) : data_(std::make_shared<const std::string>(std::move(text))) {}
  explicit Value(std::string_view text) : Value(std::string(text)) {}
  explicit Value(const char* text) : Value(std::string(text)) {}
  explicit Value(std::shared_ptr<const List> list) : data_(std::move(list)) {}
  explicit Value(std::shared_ptr<const Dict> dict) : data_(std::move(dict)) {}
  explicit Value(Namespace* space) : data_(space) {}
  explicit Value(std::shared_ptr<const LoopState> loop) : data_(std::move(loop)) {}
  explicit Value(Callable callable) : data_(callable) {}
  static Value undefined(std::string_view name);

  Kind kind() const noexcept { return static_cast<Kind>(data_.index()); }
  bool is(Kind k) const noexcept { return kind() == k; }
  bool is_number() const noexcept;    // bool, int, float, as in Python
  bool is_integral() const noexcept;  // bool, int

  // REQUIRES: the kind fits.
  bool boolean() const { return std::get<bool>(data_); }
  double real() const { return std::get<double>(data_); }
  const std::string& text() const { return *std::get<std::shared_ptr<const std::string>>(data_); }
  const List& list() const { return *std::get<std::shared_ptr<const List>>(data_); }
  const std::shared_ptr<const List>& shared_list() const {
    return std::get<std::shared_ptr<const List>>(data_);
  }
  const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
  Namespace& space() const { return *std::get<Namespace*>(data_); }
  const LoopState& loop() const { return *std::get<std::shared_ptr<const LoopState>>(data_); }
  const Callable& callable() const { return std::get<Callable>(data_); }
  std::int64_t integral() const;  // REQUIRES: is_integral()
  double number() const;          // REQUIRES: is_number()

  bool truthy() const;
  std::uint32_t depth() const;  // lists and dicts inside each other; 0 for the rest
  /// "int", "str", "list", ... for messages; an undefined value gives its name too.
  std::string describe() const;

 private:
  std::variant<Undefined, None, bool, std::int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<const List>, std::shared_ptr<const Dict>, Namespace*,
               std::shared_ptr<const LoopState>, Callable>
      data_;
};

struct List {
  std::vector<Value> items;
  bool is_tuple = false;
  std::uint32_t depth = 1;
};

struct Dict {
  std::vector<std::pair<std::string, Value>> entries;  // insertion order
  std::uint32_t depth = 1;
  const Value* find(std::string_view key) const noexcept;  // null: absent
  void set(std::string_view key, Value value);
};

struct Namespace {
  Dict fields;
};

struct LoopState {
  std::shared_ptr<const List> items;
  std::size_t index = 0;
};

/// Makers of compound values: they charge, and refuse what is nested too deeply.
Result<Value> make_text(std::string text, Budget& budget);
Result<Value> make_list(std::vector<Value> items, Budget& budget, bool is_tuple = false);
Result<Value> make_dict(Dict dict, Budget& budget);

}  // namespace larder::jinja
