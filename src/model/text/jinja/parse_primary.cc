// Literals, and what can follow a value: attributes, subscripts, calls.
#include "model/text/jinja/parser.h"

namespace larder::jinja {

ExpressionParser::Parsed ExpressionParser::list_literal() {
  auto made = std::make_unique<Expression>(Expression{ExpressionKind::list, peek().at});
  while (!take_symbol("]")) {
    if (!made->children.empty()) {
      LARDER_TRY(expect_symbol(","));
      if (take_symbol("]")) break;
    }
    LARDER_ASSIGN(ExpressionPtr item, expression());
    made->children.push_back(std::move(item));
  }
  return finish(std::move(made));
}

ExpressionParser::Parsed ExpressionParser::dict_literal() {
  auto made = std::make_unique<Expression>(Expression{ExpressionKind::dict, peek().at});
  while (!take_symbol("}")) {
    if (!made->children.empty()) {
      LARDER_TRY(expect_symbol(","));
      if (take_symbol("}")) break;
    }
    LARDER_ASSIGN(ExpressionPtr key, expression());
    LARDER_TRY(expect_symbol(":"));
    LARDER_ASSIGN(ExpressionPtr value, expression());
    made->children.push_back(std::move(key));
    made->children.push_back(std::move(value));
  }
  return finish(std::move(made));
}

ExpressionParser::Parsed ExpressionParser::parenthesized() {
  if (take_symbol(")")) return node(ExpressionKind::tuple, peek().at, {});
  LARDER_ASSIGN(ExpressionPtr value, expression_or_tuple());
  LARDER_TRY(expect_symbol(")"));
  return value;
}

ExpressionParser::Parsed ExpressionParser::postfix(ExpressionPtr value) {
  for (;;) {
    const Position at = peek().at;
    if (take_symbol(".")) {
      std::vector<ExpressionPtr> children;
      children.push_back(std::move(value));
      if (peek().kind == TokenKind::integer) {  // "pair.0" is "pair[0]"
        LARDER_ASSIGN(ExpressionPtr index, number(take()));
        children.push_back(std::move(index));
        LARDER_ASSIGN(value, node(ExpressionKind::subscript, at, std::move(children)));
        continue;
      }
      LARDER_ASSIGN(std::string name, expect_name());
      LARDER_ASSIGN(value, node(ExpressionKind::attribute, at, std::move(children), Op::none,
                                std::move(name)));
    } else if (take_symbol("[")) {
      LARDER_ASSIGN(value, subscript(std::move(value)));
    } else if (take_symbol("(")) {
      auto call = std::make_unique<Expression>(Expression{ExpressionKind::call, at});
      call->children.push_back(std::move(value));
      LARDER_TRY(arguments(*call));
      LARDER_ASSIGN(value, finish(std::move(call)));
    } else {
      return value;
    }
  }
}

ExpressionParser::Parsed ExpressionParser::subscript(ExpressionPtr value) {
  const Position at = peek().at;
  if (at_symbol(":")) return slice(std::move(value), nullptr);
  LARDER_ASSIGN(ExpressionPtr index, expression());
  if (at_symbol(":")) return slice(std::move(value), std::move(index));
  LARDER_TRY(expect_symbol("]"));
  std::vector<ExpressionPtr> children;
  children.push_back(std::move(value));
  children.push_back(std::move(index));
  return node(ExpressionKind::subscript, at, std::move(children));
}

ExpressionParser::Parsed ExpressionParser::slice(ExpressionPtr value, ExpressionPtr start) {
  const Position at = peek().at;
  std::vector<ExpressionPtr> children;
  children.push_back(std::move(value));
  children.push_back(std::move(start));
  while (children.size() < 4 && take_symbol(":")) {
    ExpressionPtr bound;
    if (!at_symbol(":") && !at_symbol("]")) {
      LARDER_ASSIGN(bound, expression());
    }
    children.push_back(std::move(bound));
  }
  LARDER_TRY(expect_symbol("]"));
  children.resize(4);
  return node(ExpressionKind::slice, at, std::move(children));
}

Result<void> ExpressionParser::arguments(Expression& call) {
  bool first = true;
  while (!take_symbol(")")) {
    if (!std::exchange(first, false)) {
      LARDER_TRY(expect_symbol(","));
      if (take_symbol(")")) break;
    }
    const Position at = peek().at;
    if (at_symbol("*") || at_symbol("**")) return unsupported(at, "a call with * or **");
    const bool named = peek().kind == TokenKind::name && peek_next().kind == TokenKind::symbol &&
                       peek_next().text == "=";
    std::string name;
    if (named) {
      name = take().text;
      take();
    } else if (!call.named.empty()) {
      return broken(at, "an argument without a name follows one with a name");
    }
    LARDER_ASSIGN(ExpressionPtr value, expression());
    if (named) {
      call.named.emplace_back(std::move(name), std::move(value));
    } else {
      call.children.push_back(std::move(value));
    }
  }
  return {};
}

}  // namespace larder::jinja
