#include "model/text/jinja/interpreter.h"

#include <algorithm>

#include "model/text/jinja/operators.h"
#include "model/text/jinja/print.h"

namespace larder::jinja {

Interpreter::InScope::InScope(Interpreter& interpreter, Scope* parent)
    : interpreter_(interpreter), scope_{{}, parent}, outer_(interpreter.scope_) {
  interpreter_.scope_ = &scope_;
}

Interpreter::InScope::~InScope() { interpreter_.scope_ = outer_; }

tl::unexpected<Error> Interpreter::located(Error error, const Position& at) {
  if (!located_) {
    error.message = fmt::format("chat template, line {}: {}", at.line, error.message);
    located_ = true;
  }
  return tl::unexpected<Error>(std::move(error));
}

Result<std::string> Interpreter::run(const Body& body) {
  LARDER_TRY(run_body(body));
  return std::move(output_);
}

Result<Interpreter::Flow> Interpreter::run_body(const Body& body) {
  for (const Statement& statement : body) {
    auto flow = run_statement(statement);
    if (!flow) return located(std::move(flow).error(), statement.at);
    if (*flow != Flow::next) return *flow;
  }
  return Flow::next;
}

Result<Interpreter::Flow> Interpreter::run_statement(const Statement& statement) {
  LARDER_TRY(budget_.step());
  switch (statement.kind) {
    case StatementKind::text:
      LARDER_TRY(print(statement.name));
      break;
    case StatementKind::print: {
      LARDER_ASSIGN(const Value value, evaluate(*statement.expressions[0]));
      LARDER_ASSIGN(const std::string text, to_text(value));
      LARDER_TRY(print(text));
      break;
    }
    case StatementKind::branches:
      return run_branches(statement);
    case StatementKind::loop:
      return run_loop(statement);
    case StatementKind::set: {
      LARDER_ASSIGN(Value value, evaluate(*statement.expressions[0]));
      LARDER_TRY(assign(statement.target, std::move(value)));
      break;
    }
    case StatementKind::set_block:
      LARDER_TRY(run_set_block(statement));
      break;
    case StatementKind::macro:
      scope_->variables.set(statement.name, Value(Callable{&statement, statement.name}));
      break;
    case StatementKind::block: {
      const InScope scope(*this, scope_);
      return run_body(statement.bodies[0]);
    }
    case StatementKind::break_loop:
      return Flow::broken;
    case StatementKind::continue_loop:
      return Flow::continued;
  }
  return Flow::next;
}

Result<void> Interpreter::print(std::string_view text) {
  LARDER_TRY(budget_.charge(text.size()));
  if (output_.size() + text.size() > kMaxTextBytes) {
    return fail(Errc::invalid_argument, "prints more than {} bytes", kMaxTextBytes);
  }
  output_ += text;
  return {};
}

Result<Interpreter::Flow> Interpreter::run_branches(const Statement& statement) {
  for (std::size_t i = 0; i < statement.bodies.size(); ++i) {
    if (i < statement.expressions.size()) {
      LARDER_ASSIGN(const Value condition, evaluate(*statement.expressions[i]));
      if (!condition.truthy()) continue;
    }
    return run_body(statement.bodies[i]);
  }
  return Flow::next;
}

Result<std::shared_ptr<const List>> Interpreter::loop_items(const Statement& statement) {
  LARDER_ASSIGN(const Value iterable, evaluate(*statement.expressions[0]));
  LARDER_ASSIGN(std::shared_ptr<const List> items, elements_of(iterable, budget_));
  const Expression* condition = statement.expressions[1].get();
  if (condition == nullptr) return items;
  auto kept = std::make_shared<List>();
  for (const Value& item : items->items) {
    const InScope scope(*this, scope_);
    LARDER_TRY(budget_.step());
    LARDER_TRY(assign(statement.target, item));
    LARDER_ASSIGN(const Value passes, evaluate(*condition));
    if (passes.truthy()) kept->items.push_back(item);
  }
  return kept;
}

Result<Interpreter::Flow> Interpreter::run_loop(const Statement& statement) {
  LARDER_ASSIGN(const auto items, loop_items(statement));
  if (items->items.empty() && statement.bodies.size() > 1) {
    const InScope scope(*this, scope_);
    return run_body(statement.bodies[1]);
  }
  const auto state = std::make_shared<LoopState>(LoopState{items, 0});
  for (; state->index < items->items.size(); ++state->index) {
    const InScope scope(*this, scope_);  // a fresh one: what a turn sets, the next does not see
    LARDER_TRY(budget_.step());
    scope_->variables.set("loop", Value(std::shared_ptr<const LoopState>(state)));
    LARDER_TRY(assign(statement.target, items->items[state->index]));
    LARDER_ASSIGN(const Flow flow, run_body(statement.bodies[0]));
    if (flow == Flow::broken) break;
  }
  return Flow::next;
}

Result<void> Interpreter::assign(const Target& target, Value value) {
  if (!target.field.empty()) {
    LARDER_ASSIGN(const Value object, look_up(target.names[0]));
    if (!object.is(Kind::space)) {
      return fail(Errc::invalid_argument, "cannot set a field of '{}': it is {}", target.names[0],
                  object.describe());
    }
    LARDER_TRY(budget_.charge(sizeof(Value) + target.field.size()));
    object.space().fields.set(target.field, std::move(value));
    return {};
  }
  LARDER_TRY(budget_.charge(scope_->variables.entries.size()));
  if (!target.is_tuple) {
    scope_->variables.set(target.names[0], std::move(value));
    return {};
  }
  LARDER_ASSIGN(const auto items, elements_of(value, budget_));
  if (value.is(Kind::undefined) || items->items.size() != target.names.size()) {
    return fail(Errc::invalid_argument, "{} of {} elements cannot be unpacked to {} names",
                value.describe(), items->items.size(), target.names.size());
  }
  for (std::size_t i = 0; i < target.names.size(); ++i) {
    scope_->variables.set(target.names[i], items->items[i]);
  }
  return {};
}

Result<std::string> Interpreter::capture(const Body& body) {
  std::string outer;
  outer.swap(output_);
  auto flow = run_body(body);
  outer.swap(output_);
  if (!flow) return tl::unexpected<Error>(std::move(flow).error());
  return outer;
}

Result<void> Interpreter::run_set_block(const Statement& statement) {
  Value value;
  {
    const InScope scope(*this, scope_);
    LARDER_ASSIGN(std::string text, capture(statement.bodies[0]));
    value = Value(std::move(text));
  }
  if (statement.expressions[0]) {
    LARDER_ASSIGN(value, filter(*statement.expressions[0], &value));
  }
  return assign(statement.target, std::move(value));
}

Result<void> Interpreter::bind_parameters(const Statement& macro, const Arguments& arguments) {
  const auto& parameters = macro.parameters;
  if (arguments.positional.size() > parameters.size()) {
    return fail(Errc::invalid_argument, "macro '{}' takes at most {} arguments, not {}", macro.name,
                parameters.size(), arguments.positional.size());
  }
  for (const auto& [name, value] : arguments.named) {
    const bool known =
        std::any_of(parameters.begin(), parameters.end(),
                    [&parameter = name](const Parameter& p) { return p.name == parameter; });
    if (!known) {
      return fail(Errc::invalid_argument, "macro '{}' has no parameter '{}'", macro.name,
                  name.substr(0, 40));
    }
    scope_->variables.set(name, value);
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (i < arguments.positional.size()) {
      scope_->variables.set(parameters[i].name, arguments.positional[i]);
    } else if (scope_->variables.find(parameters[i].name) == nullptr) {
      Value value = Value::undefined(parameters[i].name);
      if (parameters[i].otherwise) {
        LARDER_ASSIGN(value, evaluate(*parameters[i].otherwise));
      }
      scope_->variables.set(parameters[i].name, std::move(value));
    }
  }
  return {};
}

Result<Value> Interpreter::call_macro(const Statement& macro, const Arguments& arguments) {
  LARDER_TRY(budget_.step());
  const InScope scope(*this, &globals_);  // macros are global, so this is what they close over
  LARDER_TRY(bind_parameters(macro, arguments));
  LARDER_ASSIGN(std::string text, capture(macro.bodies[0]));
  return Value(std::move(text));
}

}  // namespace larder::jinja
