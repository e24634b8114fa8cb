// Tokens to syntax tree.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "larder/result.h"
#include "model/text/jinja/ast.h"
#include "model/text/jinja/lexer.h"

namespace larder::jinja {

/// Recursive descent with one token of look-ahead; the grammar and precedence are Jinja's.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  using Parsed = Result<ExpressionPtr>;
  const Token& peek() const { return tokens_[at_]; }
  const Token& peek_next() const { return tokens_[at_ + (at_ + 1 < tokens_.size() ? 1 : 0)]; }
  Token take() { return peek().kind == TokenKind::end ? peek() : tokens_[at_++]; }
  bool at_symbol(std::string_view symbol) const;
  bool at_name(std::string_view name) const;
  bool take_symbol(std::string_view symbol);
  bool take_name(std::string_view name);
  Result<void> expect_symbol(std::string_view symbol);
  Result<std::string> expect_name();
  tl::unexpected<Error> broken(const Position& at, std::string_view what) const;
  tl::unexpected<Error> unsupported(const Position& at, std::string_view what) const;
  tl::unexpected<Error> unexpected_token() const;

  Parsed expression();  // with "x if y else z"
  /// "a, b" makes a tuple. Without conditions, "x if y" ends before the "if".
  Parsed expression_or_tuple(bool with_conditions = true);
  Parsed logical(Op op);
  Parsed filters_of(ExpressionPtr value);  // "| upper | trim" after what they apply to

  /// Guards recursion; every nested construct holds one.
  Result<void> enter(const Position& at);
  void leave() { --depth_; }

 private:
  Parsed logical_not();
  Parsed comparison();
  std::optional<Op> take_comparison();
  Parsed sum();
  Parsed concat();
  Parsed product();
  Parsed power();
  Parsed unary(bool with_filters);
  Parsed primary();
  Parsed number(const Token& token);
  Parsed list_literal();
  Parsed dict_literal();
  Parsed parenthesized();
  Parsed postfix(ExpressionPtr value);
  Parsed subscript(ExpressionPtr value);
  Parsed slice(ExpressionPtr value, ExpressionPtr start);
  Parsed test_of(ExpressionPtr value);
  Result<void> arguments(Expression& call);  // after "("

  Parsed node(ExpressionKind kind, const Position& at, std::vector<ExpressionPtr> children,
              Op op = Op::none, std::string name = {});
  Parsed finish(ExpressionPtr node);

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  std::uint32_t depth_ = 0;
};

/// Errors: corrupt (syntax), unsupported (tags outside the subset), both with line and column.
/// Limits: kMaxSourceBytes, kMaxSyntaxDepth.
Result<Body> parse_template(std::string_view source);

}  // namespace larder::jinja
