// Runs a syntax tree.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/text/jinja/arguments.h"
#include "model/text/jinja/ast.h"
#include "model/text/jinja/value.h"

namespace larder::jinja {

/// One rendering of one template. Statements are in interpreter.cc, expressions in evaluate.cc.
/// Not thread-safe; the syntax tree is only read.
class Interpreter {
 public:
  /// `variables`: what the template sees. `now`: the local time of strftime_now.
  Interpreter(Dict variables, Budget budget, const std::tm& now)
      : budget_(budget), now_(now), globals_{{}, nullptr} {
    globals_.variables = std::move(variables);
  }
  /// Errors name the line; those of raise_exception carry its message.
  Result<std::string> run(const Body& body);

 private:
  enum class Flow : std::uint8_t { next, broken, continued };

  struct Scope {
    Dict variables;
    Scope* parent;
  };
  /// Enters a scope for as long as it lives.
  class InScope {
   public:
    InScope(Interpreter& interpreter, Scope* parent);
    ~InScope();
    InScope(const InScope&) = delete;
    InScope& operator=(const InScope&) = delete;

   private:
    Interpreter& interpreter_;
    Scope scope_;
    Scope* outer_;
  };

  Result<Flow> run_body(const Body& body);
  Result<Flow> run_statement(const Statement& statement);
  Result<void> print(std::string_view text);
  Result<Flow> run_branches(const Statement& statement);
  Result<Flow> run_loop(const Statement& statement);
  Result<std::shared_ptr<const List>> loop_items(const Statement& statement);
  Result<void> run_set_block(const Statement& statement);
  Result<void> assign(const Target& target, Value value);
  /// What `body` prints, instead of printing it.
  Result<std::string> capture(const Body& body);
  Result<Value> call_macro(const Statement& macro, const Arguments& arguments);
  Result<void> bind_parameters(const Statement& macro, const Arguments& arguments);

  Result<Value> evaluate(const Expression& expression);
  Result<Value> evaluate_kind(const Expression& expression);
  Result<Value> look_up(std::string_view name);
  Result<Value> unary(const Expression& expression);
  Result<Value> binary(const Expression& expression);
  Result<Value> concat(const Expression& expression);
  Result<Value> compare_chain(const Expression& expression);
  Result<Value> ternary(const Expression& expression);
  Result<Value> list_or_tuple(const Expression& expression);
  Result<Value> dict(const Expression& expression);
  Result<Value> attribute(const Expression& expression);
  Result<Value> loop_attribute(const LoopState& loop, std::string_view name);
  Result<Value> subscript(const Expression& expression);
  Result<Value> slice(const Expression& expression);
  Result<Value> call(const Expression& expression);
  Result<Value> call_loop_method(const LoopState& loop, std::string_view name,
                                 const Arguments& arguments);
  Result<Value> make_namespace(const Arguments& arguments);
  Result<Value> filter(const Expression& expression, const Value* block);
  Result<Value> test(const Expression& expression);
  Result<Arguments> arguments_of(const Expression& expression);

  /// Adds the line to an error, once.
  tl::unexpected<Error> located(Error error, const Position& at);

  Budget budget_;
  std::tm now_;
  Scope globals_;
  Scope* scope_ = &globals_;
  std::string output_;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  std::uint32_t depth_ = 0;
  bool located_ = false;
};

}  // namespace larder::jinja
