#include <algorithm>
#include <charconv>

#include "model/text/jinja/parser.h"

namespace larder::jinja {

namespace {

std::vector<ExpressionPtr> of(ExpressionPtr a) {
  std::vector<ExpressionPtr> children;
  children.push_back(std::move(a));
  return children;
}

std::vector<ExpressionPtr> of(ExpressionPtr a, ExpressionPtr b) {
  auto children = of(std::move(a));
  children.push_back(std::move(b));
  return children;
}

}  // namespace

bool ExpressionParser::at_symbol(std::string_view symbol) const {
  return peek().kind == TokenKind::symbol && peek().text == symbol;
}

bool ExpressionParser::at_name(std::string_view name) const {
  return peek().kind == TokenKind::name && peek().text == name;
}

bool ExpressionParser::take_symbol(std::string_view symbol) {
  const bool there = at_symbol(symbol);
  if (there) take();
  return there;
}

bool ExpressionParser::take_name(std::string_view name) {
  const bool there = at_name(name);
  if (there) take();
  return there;
}

Result<void> ExpressionParser::expect_symbol(std::string_view symbol) {
  if (!take_symbol(symbol)) return unexpected_token();
  return {};
}

Result<std::string> ExpressionParser::expect_name() {
  if (peek().kind != TokenKind::name) return unexpected_token();
  return take().text;
}

tl::unexpected<Error> ExpressionParser::broken(const Position& at, std::string_view what) const {
  return fail(Errc::corrupt, "chat template, line {}, column {}: {}", at.line, at.column, what);
}

tl::unexpected<Error> ExpressionParser::unsupported(const Position& at,
                                                    std::string_view what) const {
  return fail(Errc::unsupported, "chat template, line {}, column {}: {} is not supported", at.line,
              at.column, what);
}

tl::unexpected<Error> ExpressionParser::unexpected_token() const {
  const Token& token = peek();
  switch (token.kind) {
    case TokenKind::data:
      return broken(token.at, "unexpected text");
    case TokenKind::print_begin:
      return broken(token.at, "unexpected '{{'");
    case TokenKind::print_end:
      return broken(token.at, "unexpected '}}'");
    case TokenKind::block_begin:
      return broken(token.at, "unexpected '{%'");
    case TokenKind::block_end:
      return broken(token.at, "unexpected '%}'");
    case TokenKind::end:
      return broken(token.at, "unexpected end of the template");
    default:
      return broken(token.at, fmt::format("unexpected '{}'", token.text.substr(0, 40)));
  }
}

Result<void> ExpressionParser::enter(const Position& at) {
  if (++depth_ > kMaxSyntaxDepth) {
    return broken(at, fmt::format("nested more than {} deep", kMaxSyntaxDepth));
  }
  return {};
}

ExpressionParser::Parsed ExpressionParser::finish(ExpressionPtr node) {
  const auto count = [&](const ExpressionPtr& child) {
    if (child) node->depth = std::max(node->depth, child->depth + 1);
  };
  for (const auto& child : node->children) count(child);
  for (const auto& [name, child] : node->named) count(child);
  if (node->depth > kMaxSyntaxDepth) {  // chains like a.b.c.d are deep without any recursion here
    return broken(node->at, fmt::format("nested more than {} deep", kMaxSyntaxDepth));
  }
  return node;
}

ExpressionParser::Parsed ExpressionParser::node(ExpressionKind kind, const Position& at,
                                                std::vector<ExpressionPtr> children, Op op,
                                                std::string name) {
  auto made = std::make_unique<Expression>(Expression{kind, at});
  made->children = std::move(children);
  made->op = op;
  made->name = std::move(name);
  return finish(std::move(made));
}

ExpressionParser::Parsed ExpressionParser::expression_or_tuple(bool with_conditions) {
  const Position at = peek().at;
  const auto next = [&] { return with_conditions ? expression() : logical(Op::logical_or); };
  LARDER_ASSIGN(ExpressionPtr first, next());
  if (!at_symbol(",")) return first;
  auto items = of(std::move(first));
  while (take_symbol(",")) {
    if (peek().kind == TokenKind::block_end || peek().kind == TokenKind::print_end ||
        at_symbol(")")) {
      break;
    }
    LARDER_ASSIGN(ExpressionPtr item, next());
    items.push_back(std::move(item));
  }
  return node(ExpressionKind::tuple, at, std::move(items));
}

ExpressionParser::Parsed ExpressionParser::expression() {
  const Position at = peek().at;
  LARDER_TRY(enter(at));
  LARDER_ASSIGN(ExpressionPtr value, logical(Op::logical_or));
  while (take_name("if")) {
    auto children = of(std::move(value));
    LARDER_ASSIGN(ExpressionPtr condition, logical(Op::logical_or));
    ExpressionPtr otherwise;
    if (take_name("else")) {
      LARDER_ASSIGN(otherwise, expression());
    }
    children.push_back(std::move(condition));
    children.push_back(std::move(otherwise));
    LARDER_ASSIGN(value, node(ExpressionKind::ternary, at, std::move(children)));
  }
  leave();
  return value;
}

ExpressionParser::Parsed ExpressionParser::logical(Op op) {
  const bool is_or = op == Op::logical_or;
  const Position at = peek().at;
  LARDER_ASSIGN(ExpressionPtr left, is_or ? logical(Op::logical_and) : logical_not());
  while (take_name(is_or ? "or" : "and")) {
    LARDER_ASSIGN(ExpressionPtr right, is_or ? logical(Op::logical_and) : logical_not());
    LARDER_ASSIGN(left,
                  node(ExpressionKind::binary, at, of(std::move(left), std::move(right)), op));
  }
  return left;
}

ExpressionParser::Parsed ExpressionParser::logical_not() {
  const Position at = peek().at;
  if (!take_name("not")) return comparison();
  LARDER_TRY(enter(at));
  LARDER_ASSIGN(ExpressionPtr value, logical_not());
  leave();
  return node(ExpressionKind::unary, at, of(std::move(value)), Op::logical_not);
}

std::optional<Op> ExpressionParser::take_comparison() {
  constexpr std::pair<std::string_view, Op> kSymbols[] = {
      {"==", Op::equal},      {"!=", Op::not_equal}, {"<", Op::less},
      {"<=", Op::less_equal}, {">", Op::greater},    {">=", Op::greater_equal}};
  for (const auto& [symbol, op] : kSymbols) {
    if (take_symbol(symbol)) return op;
  }
  if (take_name("in")) return Op::in;
  if (at_name("not") && peek_next().kind == TokenKind::name && peek_next().text == "in") {
    take();
    take();
    return Op::not_in;
  }
  return std::nullopt;
}

ExpressionParser::Parsed ExpressionParser::comparison() {
  const Position at = peek().at;
  LARDER_ASSIGN(ExpressionPtr first, sum());
  auto made = std::make_unique<Expression>(Expression{ExpressionKind::compare, at});
  made->children = of(std::move(first));
  while (const std::optional<Op> op = take_comparison()) {
    made->ops.push_back(*op);
    LARDER_ASSIGN(ExpressionPtr next, sum());
    made->children.push_back(std::move(next));
  }
  if (made->ops.empty()) return std::move(made->children[0]);
  return finish(std::move(made));
}

ExpressionParser::Parsed ExpressionParser::sum() {
  const Position at = peek().at;
  LARDER_ASSIGN(ExpressionPtr left, concat());
  while (at_symbol("+") || at_symbol("-")) {
    const Op op = at_symbol("+") ? Op::add : Op::subtract;
    take();
    LARDER_ASSIGN(ExpressionPtr right, concat());
    LARDER_ASSIGN(left,
                  node(ExpressionKind::binary, at, of(std::move(left), std::move(right)), op));
  }
  return left;
}

ExpressionParser::Parsed ExpressionParser::concat() {
  const Position at = peek().at;
  LARDER_ASSIGN(ExpressionPtr first, product());
  if (!at_symbol("~")) return first;
  auto parts = of(std::move(first));
  while (take_symbol("~")) {
    LARDER_ASSIGN(ExpressionPtr part, product());
    parts.push_back(std::move(part));
  }
  return node(ExpressionKind::concat, at, std::move(parts));
}

ExpressionParser::Parsed ExpressionParser::product() {
  const Position at = peek().at;
  LARDER_ASSIGN(ExpressionPtr left, power());
  while (at_symbol("*") || at_symbol("/") || at_symbol("//") || at_symbol("%")) {
    const std::string symbol = peek().text;
    take();
    const Op op = symbol == "*"    ? Op::multiply
                  : symbol == "/"  ? Op::divide
                  : symbol == "//" ? Op::floor_divide
                                   : Op::modulo;
    LARDER_ASSIGN(ExpressionPtr right, power());
    LARDER_ASSIGN(left,
                  node(ExpressionKind::binary, at, of(std::move(left), std::move(right)), op));
  }
  return left;
}

ExpressionParser::Parsed ExpressionParser::power() {
  const Position at = peek().at;
  LARDER_ASSIGN(ExpressionPtr left, unary(true));
  while (take_symbol("**")) {  // to the left, unlike Python: Jinja's grammar
    LARDER_ASSIGN(ExpressionPtr right, unary(true));
    LARDER_ASSIGN(
        left, node(ExpressionKind::binary, at, of(std::move(left), std::move(right)), Op::power));
  }
  return left;
}

ExpressionParser::Parsed ExpressionParser::unary(bool with_filters) {
  const Position at = peek().at;
  ExpressionPtr value;
  if (at_symbol("-") || at_symbol("+")) {
    const Op op = at_symbol("-") ? Op::negate : Op::plus;
    take();
    LARDER_TRY(enter(at));
    LARDER_ASSIGN(ExpressionPtr operand, unary(false));
    leave();
    LARDER_ASSIGN(value, node(ExpressionKind::unary, at, of(std::move(operand)), op));
  } else {
    LARDER_ASSIGN(value, primary());
  }
  LARDER_ASSIGN(value, postfix(std::move(value)));
  return with_filters ? filters_of(std::move(value)) : Parsed(std::move(value));
}

ExpressionParser::Parsed ExpressionParser::primary() {
  const Token token = peek();
  if (token.kind == TokenKind::symbol) {
    if (take_symbol("(")) return parenthesized();
    if (take_symbol("[")) return list_literal();
    if (take_symbol("{")) return dict_literal();
    return unexpected_token();
  }
  if (token.kind == TokenKind::integer || token.kind == TokenKind::real) return number(take());
  if (token.kind != TokenKind::text && token.kind != TokenKind::name) return unexpected_token();
  LARDER_ASSIGN(ExpressionPtr made, node(ExpressionKind::constant, token.at, {}));
  if (token.kind == TokenKind::text) {
    std::string text;
    while (peek().kind == TokenKind::text) text += take().text;  // "a" "b" is "ab"
    made->value = Value(std::move(text));
    return made;
  }
  take();
  if (token.text == "true" || token.text == "True") {
    made->value = Value(true);
  } else if (token.text == "false" || token.text == "False") {
    made->value = Value(false);
  } else if (token.text == "none" || token.text == "None") {
    made->value = Value(None{});
  } else {
    made->kind = ExpressionKind::name;
    made->name = token.text;
  }
  return made;
}

ExpressionParser::Parsed ExpressionParser::number(const Token& token) {
  LARDER_ASSIGN(ExpressionPtr made, node(ExpressionKind::constant, token.at, {}));
  const char* const begin = token.text.data();
  const char* const end = begin + token.text.size();
  if (token.kind == TokenKind::real) {
    double value = 0;
    std::from_chars(begin, end, value);  // out of range: stays 0 or what fits, as good as any
    made->value = Value(value);
    return made;
  }
  std::int64_t value = 0;
  if (std::from_chars(begin, end, value).ec != std::errc{}) {
    return broken(token.at, fmt::format("the integer {} is too large", token.text.substr(0, 40)));
  }
  made->value = Value(value);
  return made;
}

ExpressionParser::Parsed ExpressionParser::filters_of(ExpressionPtr value) {
  for (;;) {
    const Position at = peek().at;
    if (take_symbol("|")) {
      LARDER_ASSIGN(std::string name, expect_name());
      auto made = std::make_unique<Expression>(Expression{ExpressionKind::filter, at});
      made->name = std::move(name);
      made->children = of(std::move(value));
      if (take_symbol("(")) LARDER_TRY(arguments(*made));
      LARDER_ASSIGN(value, finish(std::move(made)));
    } else if (take_name("is")) {
      LARDER_ASSIGN(value, test_of(std::move(value)));
    } else if (at_symbol("(")) {
      LARDER_ASSIGN(value, postfix(std::move(value)));
    } else {
      return value;
    }
  }
}

ExpressionParser::Parsed ExpressionParser::test_of(ExpressionPtr value) {
  const Position at = peek().at;
  const bool negated = take_name("not");
  LARDER_ASSIGN(std::string name, expect_name());
  auto made = std::make_unique<Expression>(Expression{ExpressionKind::test, at});
  made->name = std::move(name);
  made->children = of(std::move(value));
  const TokenKind next = peek().kind;
  if (take_symbol("(")) {
    LARDER_TRY(arguments(*made));
  } else if (next == TokenKind::text || next == TokenKind::integer || next == TokenKind::real ||
             at_symbol("[") || at_symbol("{") ||
             (next == TokenKind::name && !at_name("else") && !at_name("or") && !at_name("and") &&
              !at_name("if") && !at_name("is"))) {
    LARDER_TRY(enter(at));
    LARDER_ASSIGN(ExpressionPtr argument, primary());
    LARDER_ASSIGN(argument, postfix(std::move(argument)));
    leave();
    made->children.push_back(std::move(argument));
  }
  LARDER_ASSIGN(value, finish(std::move(made)));
  if (!negated) return value;
  return node(ExpressionKind::unary, at, of(std::move(value)), Op::logical_not);
}

}  // namespace larder::jinja
