// The syntax tree of a template.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/text/jinja/value.h"

namespace larder::jinja {

struct Position {
  std::uint32_t line = 1, column = 1;
};

enum class Op : std::uint8_t {
  none,
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,
  negate,
  plus,
  logical_not,
  logical_and,
  logical_or,
  equal,
  not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  in,
  not_in
};

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind : std::uint8_t {
  constant,   // value
  name,       // name
  list,       // children
  tuple,      // children
  dict,       // children: key, value, key, value, ...
  unary,      // op, children[0]
  binary,     // op (arithmetic and logical), children[0], children[1]
  concat,     // children, joined as text
  compare,    // children[0] ops[0] children[1] ops[1] ...: true when each pair is
  ternary,    // children: value, condition, otherwise (may be null)
  attribute,  // children[0].name
  subscript,  // children[0][children[1]]
  slice,      // children[0][children[1]:children[2]:children[3]], each of the three may be null
  call,       // children[0](children[1...], named)
  filter,     // children[0] | name(children[1...], named); children[0] null: of a block set
  test        // children[0] is name(children[1...], named)
};

struct Expression {
  ExpressionKind kind;
  Position at;
  std::uint32_t depth = 1;  // longest path to a leaf; bounded by kMaxSyntaxDepth
  Op op = Op::none;
  std::string name = {};
  Value value = {};
  std::vector<ExpressionPtr> children = {};
  std::vector<Op> ops = {};
  std::vector<std::pair<std::string, ExpressionPtr>> named = {};
};

/// Where a value is stored: a variable, a namespace's field, or a tuple of variables.
struct Target {
  std::vector<std::string> names;
  std::string field;  // names[0].field
  bool is_tuple = false;
};

enum class StatementKind : std::uint8_t {
  text,       // name: printed as it is
  print,      // expressions[0]
  branches,   // bodies[i] runs when expressions[i] is true; one more body: else
  loop,       // target, expressions: iterable, condition (may be null); bodies: body, else (maybe)
  set,        // target, expressions[0]
  set_block,  // target, bodies[0], expressions: a filter or null
  macro,      // name, parameters, bodies[0]
  block,      // bodies[0] in a scope of its own ("generation")
  break_loop,
  continue_loop
};

struct Parameter {
  std::string name;
  ExpressionPtr otherwise;  // null: undefined
};

struct Statement {
  StatementKind kind;
  Position at;
  std::string name = {};
  Target target = {};
  std::vector<ExpressionPtr> expressions = {};
  std::vector<std::vector<Statement>> bodies = {};
  std::vector<Parameter> parameters = {};
};

using Body = std::vector<Statement>;

}  // namespace larder::jinja
