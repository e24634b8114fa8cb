#include <algorithm>

#include "model/text/jinja/filters.h"
#include "model/text/jinja/interpreter.h"
#include "model/text/jinja/methods.h"
#include "model/text/jinja/operators.h"
#include "model/text/jinja/print.h"

namespace larder::jinja {

namespace {

constexpr std::string_view kNamespace = "namespace";

}  // namespace

Result<Value> Interpreter::evaluate(const Expression& expression) {
  LARDER_TRY(budget_.step());
  if (depth_ >= kMaxEvaluationDepth) {
    return fail(Errc::invalid_argument, "evaluation nests more than {} deep", kMaxEvaluationDepth);
  }
  ++depth_;
  auto value = evaluate_kind(expression);
  --depth_;
  if (!value) return located(std::move(value).error(), expression.at);
  return value;
}

Result<Value> Interpreter::evaluate_kind(const Expression& expression) {
  switch (expression.kind) {
    case ExpressionKind::constant:
      return expression.value;
    case ExpressionKind::name:
      return look_up(expression.name);
    case ExpressionKind::list:
    case ExpressionKind::tuple:
      return list_or_tuple(expression);
    case ExpressionKind::dict:
      return dict(expression);
    case ExpressionKind::unary:
      return unary(expression);
    case ExpressionKind::binary:
      return binary(expression);
    case ExpressionKind::concat:
      return concat(expression);
    case ExpressionKind::compare:
      return compare_chain(expression);
    case ExpressionKind::ternary:
      return ternary(expression);
    case ExpressionKind::attribute:
      return attribute(expression);
    case ExpressionKind::subscript:
      return subscript(expression);
    case ExpressionKind::slice:
      return slice(expression);
    case ExpressionKind::call:
      return call(expression);
    case ExpressionKind::filter:
      return filter(expression, nullptr);
    case ExpressionKind::test:
      return test(expression);
  }
  return Value();
}

Result<Value> Interpreter::look_up(std::string_view name) {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    LARDER_TRY(budget_.charge(scope->variables.entries.size()));
    if (const Value* found = scope->variables.find(name)) return *found;
  }
  if (name == kNamespace) return Value(Callable{nullptr, kNamespace});
  const std::string_view function = find_function(name);
  if (!function.empty()) return Value(Callable{nullptr, function});
  return Value::undefined(name);
}

Result<Value> Interpreter::unary(const Expression& expression) {
  LARDER_ASSIGN(Value value, evaluate(*expression.children[0]));
  if (expression.op == Op::logical_not) return Value(!value.truthy());
  if (expression.op == Op::negate) return negate(value);
  if (!value.is_number()) {
    return fail(Errc::invalid_argument, "cannot apply + to {}", value.describe());
  }
  return value.is(Kind::boolean) ? Value(value.integral()) : value;
}

Result<Value> Interpreter::binary(const Expression& expression) {
  LARDER_ASSIGN(Value left, evaluate(*expression.children[0]));
  if (expression.op == Op::logical_and || expression.op == Op::logical_or) {
    if (left.truthy() == (expression.op == Op::logical_or)) return left;
    return evaluate(*expression.children[1]);
  }
  LARDER_ASSIGN(const Value right, evaluate(*expression.children[1]));
  return arithmetic(expression.op, left, right, budget_);
}

Result<Value> Interpreter::concat(const Expression& expression) {
  std::string out;
  for (const ExpressionPtr& child : expression.children) {
    LARDER_ASSIGN(const Value value, evaluate(*child));
    LARDER_ASSIGN(const std::string text, to_text(value));
    LARDER_TRY(budget_.charge(text.size()));
    LARDER_TRY(
        budget_.text(out.size() + text.size() > kMaxTextBytes ? out.size() + text.size() : 0));
    out += text;
  }
  return Value(std::move(out));
}

Result<Value> Interpreter::compare_chain(const Expression& expression) {
  LARDER_ASSIGN(Value left, evaluate(*expression.children[0]));
  for (std::size_t i = 0; i < expression.ops.size(); ++i) {
    LARDER_ASSIGN(Value right, evaluate(*expression.children[i + 1]));
    LARDER_ASSIGN(const bool holds, compare(expression.ops[i], left, right, budget_));
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Result<Value> Interpreter::ternary(const Expression& expression) {
  LARDER_ASSIGN(const Value condition, evaluate(*expression.children[1]));
  if (condition.truthy()) return evaluate(*expression.children[0]);
  if (!expression.children[2]) return Value::undefined("if without else");
  return evaluate(*expression.children[2]);
}

Result<Value> Interpreter::list_or_tuple(const Expression& expression) {
  std::vector<Value> items;
  items.reserve(expression.children.size());
  for (const ExpressionPtr& child : expression.children) {
    LARDER_ASSIGN(Value item, evaluate(*child));
    items.push_back(std::move(item));
  }
  return make_list(std::move(items), budget_, expression.kind == ExpressionKind::tuple);
}

Result<Value> Interpreter::dict(const Expression& expression) {
  Dict made;
  for (std::size_t i = 0; i < expression.children.size(); i += 2) {
    LARDER_ASSIGN(const Value key, evaluate(*expression.children[i]));
    if (!key.is(Kind::text)) {
      return fail(Errc::unsupported, "a dict key that is {} is not supported", key.describe());
    }
    LARDER_ASSIGN(Value value, evaluate(*expression.children[i + 1]));
    LARDER_TRY(budget_.charge(key.text().size() + made.entries.size()));
    made.set(key.text(), std::move(value));
  }
  return make_dict(std::move(made), budget_);
}

Result<Value> Interpreter::attribute(const Expression& expression) {
  LARDER_ASSIGN(const Value object, evaluate(*expression.children[0]));
  if (object.is(Kind::undefined)) {
    return fail(Errc::invalid_argument, "{} has no attribute '{}'", object.describe(),
                expression.name);
  }
  if (object.is(Kind::loop)) return loop_attribute(object.loop(), expression.name);
  const std::string_view method = find_method(object, expression.name);  // wins over a dict's key
  if (!method.empty()) return Value(Callable{nullptr, method});
  return item_of(object, Value(expression.name), budget_);
}

Result<Value> Interpreter::loop_attribute(const LoopState& loop, std::string_view name) {
  const auto index = static_cast<std::int64_t>(loop.index);
  const auto length = static_cast<std::int64_t>(loop.items->items.size());
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(length - index);
  if (name == "revindex0") return Value(length - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == length);
  if (name == "length") return Value(length);
  if (name == "depth" || name == "depth0") return Value(std::int64_t{name == "depth" ? 1 : 0});
  const auto neighbour = [&](std::int64_t i) {
    return i < 0 || i >= length ? Value::undefined(name)
                                : loop.items->items[static_cast<std::size_t>(i)];
  };
  if (name == "previtem") return neighbour(index - 1);
  if (name == "nextitem") return neighbour(index + 1);
  if (name == "cycle") return Value(Callable{nullptr, "cycle"});
  if (name == "changed") return fail(Errc::unsupported, "loop.changed is not supported");
  return Value::undefined(name);
}

Result<Value> Interpreter::subscript(const Expression& expression) {
  LARDER_ASSIGN(const Value object, evaluate(*expression.children[0]));
  LARDER_ASSIGN(const Value key, evaluate(*expression.children[1]));
  LARDER_ASSIGN(Value item, item_of(object, key, budget_));
  if (!item.is(Kind::undefined) || !key.is(Kind::text)) return item;
  if (object.is(Kind::loop)) return loop_attribute(object.loop(), key.text());
  const std::string_view method = find_method(object, key.text());
  return method.empty() ? item : Value(Callable{nullptr, method});
}

Result<Value> Interpreter::slice(const Expression& expression) {
  LARDER_ASSIGN(const Value object, evaluate(*expression.children[0]));
  Value bounds[3];
  for (std::size_t i = 0; i < 3; ++i) {
    const ExpressionPtr& child = expression.children[i + 1];
    if (!child) continue;
    LARDER_ASSIGN(bounds[i], evaluate(*child));
  }
  return slice_of(object, bounds, budget_);
}

Result<Arguments> Interpreter::arguments_of(const Expression& expression) {
  Arguments arguments;
  for (std::size_t i = 1; i < expression.children.size(); ++i) {
    LARDER_ASSIGN(Value value, evaluate(*expression.children[i]));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, child] : expression.named) {
    LARDER_ASSIGN(Value value, evaluate(*child));
    arguments.named.emplace_back(name, std::move(value));
  }
  return arguments;
}

Result<Value> Interpreter::call(const Expression& expression) {
  const Expression& callee = *expression.children[0];
  if (callee.kind == ExpressionKind::attribute) {
    LARDER_ASSIGN(const Value object, evaluate(*callee.children[0]));
    const std::string_view method = find_method(object, callee.name);
    if (!method.empty() || object.is(Kind::loop)) {
      LARDER_ASSIGN(const Arguments arguments, arguments_of(expression));
      if (object.is(Kind::loop)) return call_loop_method(object.loop(), callee.name, arguments);
      return call_method(object, method, arguments, budget_);
    }
    if (!object.is(Kind::space)) {
      return fail(Errc::unsupported, "{} has no method '{}'", object.describe(), callee.name);
    }
  }
  LARDER_ASSIGN(const Value function, evaluate(callee));
  if (!function.is(Kind::callable)) {
    return fail(Errc::invalid_argument, "{} cannot be called", function.describe());
  }
  LARDER_ASSIGN(const Arguments arguments, arguments_of(expression));
  const Callable& callable = function.callable();
  if (callable.macro != nullptr) return call_macro(*callable.macro, arguments);
  if (callable.name == kNamespace) return make_namespace(arguments);
  if (find_function(callable.name).empty()) {
    return fail(Errc::unsupported, "calling the method '{}' apart from its object is not supported",
                callable.name);
  }
  auto result = call_function(callable.name, arguments, now_, budget_);
  if (!result && callable.name == "raise_exception") located_ = true;  // the message, as it is
  return result;
}

Result<Value> Interpreter::call_loop_method(const LoopState& loop, std::string_view name,
                                            const Arguments& arguments) {
  if (name != "cycle") {
    return fail(Errc::unsupported, "loop.{}() is not supported", name.substr(0, 40));
  }
  if (arguments.positional.empty()) return fail(Errc::invalid_argument, "loop.cycle() of nothing");
  return arguments.positional[loop.index % arguments.positional.size()];
}

Result<Value> Interpreter::make_namespace(const Arguments& arguments) {
  LARDER_TRY(budget_.charge(sizeof(Namespace)));
  if (namespaces_.size() >= kMaxNamespaces) {
    return fail(Errc::invalid_argument, "makes more than {} namespaces", kMaxNamespaces);
  }
  LARDER_ASSIGN(const Value fields, call_function("dict", arguments, now_, budget_));
  namespaces_.push_back(std::make_unique<Namespace>(Namespace{fields.dict()}));
  return Value(namespaces_.back().get());
}

Result<Value> Interpreter::filter(const Expression& expression, const Value* block) {
  if (expression.kind != ExpressionKind::filter) {
    return fail(Errc::unsupported, "only filters can follow a block set");
  }
  Value input = block != nullptr ? *block : Value();
  if (expression.children[0]) {
    if (block != nullptr) {
      LARDER_ASSIGN(input, filter(*expression.children[0], block));
    } else {
      LARDER_ASSIGN(input, evaluate(*expression.children[0]));
    }
  }
  LARDER_ASSIGN(const Arguments arguments, arguments_of(expression));
  return apply_filter(expression.name, input, arguments, budget_);
}

Result<Value> Interpreter::test(const Expression& expression) {
  LARDER_ASSIGN(const Value value, evaluate(*expression.children[0]));
  LARDER_ASSIGN(const Arguments arguments, arguments_of(expression));
  LARDER_ASSIGN(const bool passes, apply_test(expression.name, value, arguments, budget_));
  return Value(passes);
}

}  // namespace larder::jinja
