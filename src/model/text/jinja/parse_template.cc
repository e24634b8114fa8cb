#include <algorithm>
#include <initializer_list>
#include <limits>

#include "model/text/jinja/parser.h"

namespace larder::jinja {

namespace {

constexpr std::string_view kKnownTags[] = {"include", "import", "from",     "extends",    "block",
                                           "call",    "filter", "with",     "autoescape", "trans",
                                           "do",      "debug",  "pluralize"};

class TemplateParser : ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Result<Body> run() {
    LARDER_ASSIGN(Body body, statements({}));
    return body;
  }

 private:
  using EndTags = std::initializer_list<std::string_view>;

  /// Everything up to one of `ends`, whose tag is left open: the position is at its name.
  Result<Body> statements(EndTags ends) {
    const Position at = peek().at;
    LARDER_TRY(enter(at));
    Body body;
    for (;;) {
      const Token token = take();
      if (token.kind == TokenKind::end) {
        if (ends.size() != 0) {
          return broken(token.at,
                        fmt::format("the template ends where '{}' is missing", *(ends.end() - 1)));
        }
        leave();
        return body;
      }
      if (token.kind == TokenKind::block_begin &&
          std::any_of(ends.begin(), ends.end(), [&](auto name) { return at_name(name); })) {
        leave();
        return body;
      }
      LARDER_ASSIGN(Statement made, statement(token));
      body.push_back(std::move(made));
    }
  }

  Result<Statement> statement(const Token& token) {
    if (token.kind == TokenKind::data) {
      return Statement{.kind = StatementKind::text, .at = token.at, .name = token.text};
    }
    if (token.kind == TokenKind::print_begin) {
      Statement made{.kind = StatementKind::print, .at = token.at};
      LARDER_ASSIGN(ExpressionPtr value, expression_or_tuple());
      if (take().kind != TokenKind::print_end) return broken(token.at, "a '{{' has no '}}'");
      made.expressions.push_back(std::move(value));
      return made;
    }
    const Position at = peek().at;
    LARDER_ASSIGN(const std::string tag, expect_name());
    if (tag == "if") return branches(at);
    if (tag == "for") return loop(at);
    if (tag == "set") return set(at);
    if (tag == "macro") return macro(at);
    if (tag == "generation") return generation(at);
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) return broken(at, fmt::format("'{}' outside of a loop", tag));
      LARDER_TRY(end_tag());
      return Statement{
          .kind = tag == "break" ? StatementKind::break_loop : StatementKind::continue_loop,
          .at = at};
    }
    if (std::find(std::begin(kKnownTags), std::end(kKnownTags), tag) != std::end(kKnownTags)) {
      return unsupported(at, fmt::format("the tag '{}'", tag));
    }
    return broken(at, fmt::format("unknown tag '{}'", tag));
  }

  Result<void> end_tag() {
    if (peek().kind != TokenKind::block_end) return unexpected_token();
    take();
    return {};
  }

  /// A body closed by "endNAME"; the closing tag is taken.
  Result<Body> body_until(std::string_view end) {
    LARDER_ASSIGN(Body body, statements({end}));
    take();
    LARDER_TRY(end_tag());
    return body;
  }

  Result<Statement> branches(const Position& at) {
    Statement made{.kind = StatementKind::branches, .at = at};
    std::string tag = "if";
    while (tag != "endif") {
      if (tag != "else") {
        LARDER_ASSIGN(ExpressionPtr condition, expression_or_tuple(false));
        made.expressions.push_back(std::move(condition));
      }
      LARDER_TRY(end_tag());
      LARDER_ASSIGN(Body body,
                    tag == "else" ? statements({"endif"}) : statements({"elif", "else", "endif"}));
      made.bodies.push_back(std::move(body));
      tag = take().text;
    }
    LARDER_TRY(end_tag());
    return made;
  }

  Result<Target> target() {
    Target made;
    const bool parenthesis = take_symbol("(");
    LARDER_ASSIGN(std::string first, expect_name());
    made.names.push_back(std::move(first));
    if (take_symbol(".")) {
      LARDER_ASSIGN(made.field, expect_name());
    }
    while (made.field.empty() && take_symbol(",")) {
      made.is_tuple = true;
      if (peek().kind != TokenKind::name || at_name("in")) break;
      LARDER_ASSIGN(std::string name, expect_name());
      made.names.push_back(std::move(name));
    }
    if (parenthesis) LARDER_TRY(expect_symbol(")"));
    return made;
  }

  Result<Statement> loop(const Position& at) {
    Statement made{.kind = StatementKind::loop, .at = at};
    LARDER_ASSIGN(made.target, target());
    if (!made.target.field.empty()) return broken(at, "a loop cannot assign to a field");
    if (!take_name("in")) return unexpected_token();
    LARDER_ASSIGN(ExpressionPtr items, expression_or_tuple(false));
    ExpressionPtr condition;
    if (take_name("if")) {
      LARDER_ASSIGN(condition, expression());
    }
    if (at_name("recursive")) return unsupported(peek().at, "a recursive loop");
    LARDER_TRY(end_tag());
    made.expressions.push_back(std::move(items));
    made.expressions.push_back(std::move(condition));
    ++loops_;
    LARDER_ASSIGN(Body body, statements({"else", "endfor"}));
    --loops_;
    made.bodies.push_back(std::move(body));
    if (take().text == "else") {
      LARDER_TRY(end_tag());
      LARDER_ASSIGN(Body otherwise, statements({"endfor"}));
      made.bodies.push_back(std::move(otherwise));
      take();
    }
    LARDER_TRY(end_tag());
    return made;
  }

  Result<Statement> set(const Position& at) {
    Statement made{.kind = StatementKind::set, .at = at};
    LARDER_ASSIGN(made.target, target());
    if (take_symbol("=")) {
      LARDER_ASSIGN(ExpressionPtr value, expression_or_tuple());
      LARDER_TRY(end_tag());
      made.expressions.push_back(std::move(value));
      return made;
    }
    made.kind = StatementKind::set_block;
    ExpressionPtr filter;
    if (at_symbol("|")) {
      LARDER_ASSIGN(filter, filters_of(nullptr));
    }
    LARDER_TRY(end_tag());
    ++inner_scopes_;
    const std::uint32_t outer_loops = std::exchange(loops_, 0);
    LARDER_ASSIGN(Body body, body_until("endset"));
    loops_ = outer_loops;
    --inner_scopes_;
    made.expressions.push_back(std::move(filter));
    made.bodies.push_back(std::move(body));
    return made;
  }

  Result<Statement> macro(const Position& at) {
    if (inner_scopes_ + loops_ > 0) {
      return unsupported(at, "a macro inside a loop, a block or another macro");
    }
    Statement made{.kind = StatementKind::macro, .at = at};
    LARDER_ASSIGN(made.name, expect_name());
    LARDER_TRY(expect_symbol("("));
    while (!take_symbol(")")) {
      if (!made.parameters.empty()) LARDER_TRY(expect_symbol(","));
      Parameter parameter;
      LARDER_ASSIGN(parameter.name, expect_name());
      if (take_symbol("=")) {
        LARDER_ASSIGN(parameter.otherwise, expression());
      } else if (!made.parameters.empty() && made.parameters.back().otherwise) {
        return broken(peek().at, "a parameter without a default follows one with a default");
      }
      made.parameters.push_back(std::move(parameter));
    }
    LARDER_TRY(end_tag());
    ++inner_scopes_;
    LARDER_ASSIGN(Body body, body_until("endmacro"));
    --inner_scopes_;
    made.bodies.push_back(std::move(body));
    return made;
  }

  /// Marks what the assistant said; transparent but for the scope of its variables.
  Result<Statement> generation(const Position& at) {
    Statement made{.kind = StatementKind::block, .at = at};
    LARDER_TRY(end_tag());
    ++inner_scopes_;
    const std::uint32_t outer_loops = std::exchange(loops_, 0);
    LARDER_ASSIGN(Body body, body_until("endgeneration"));
    loops_ = outer_loops;
    --inner_scopes_;
    made.bodies.push_back(std::move(body));
    return made;
  }

  std::uint32_t loops_ = 0;         // around the current statement, in the same body of output
  std::uint32_t inner_scopes_ = 0;  // macros and blocks around it
};

}  // namespace

Result<Body> parse_template(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return fail(Errc::corrupt, "chat template: {} bytes; the limit is {}", source.size(),
                kMaxSourceBytes);
  }
  LARDER_ASSIGN(std::vector<Token> tokens, tokenize_template(source));
  return TemplateParser(std::move(tokens)).run();
}

}  // namespace larder::jinja
