#include "grammar/json_schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/fail.h"
#include "base/json_shape.h"
#include "grammar/schema_compiler.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxSchemaBytes = std::size_t{1} << 18;
constexpr GrammarBuilder::Limits kLimits = {std::size_t{1} << 15, std::size_t{1} << 18};
constexpr std::size_t kMaxDepth = 48;
constexpr std::size_t kMaxMembers = 2048;  // of one object: each name is compared with the others
constexpr std::uint32_t kMaxRepeats = 1'000'000;  // of minLength, maxItems, ...

constexpr std::array kAnnotations = {
    "title", "description", "default",     "examples",   "$schema",  "$id",      "$comment",
    "$defs", "$anchor",     "definitions", "deprecated", "readOnly", "writeOnly"};
constexpr std::array kTypes = {"object", "array", "string", "number", "integer", "boolean", "null"};

/// A keyword and the type that it speaks of.
struct Assertion {
  const char* keyword;
  const char* type;
};
constexpr std::array kAssertions = {
    Assertion{"properties", "object"}, Assertion{"required", "object"},
    Assertion{"items", "array"},       Assertion{"additionalProperties", "object"},
    Assertion{"minItems", "array"},    Assertion{"maxItems", "array"},
    Assertion{"minLength", "string"},  Assertion{"maxLength", "string"}};

template <class List>
bool is_among(const List& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

bool is_of_type(const Json& value, const std::string& type) {
  if (type == "integer") {
    return value.is_number_integer() ||
           (value.is_number_float() && written_json(value).ends_with(".0"));
  }
  if (type == "number") return value.is_number();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "array") return value.is_array();
  return type == "object" && value.is_object();
}

GrammarEdge byte_edge(char c, GrammarState target) {
  GrammarEdge edge;
  edge.kind = GrammarEdge::Kind::byte;
  edge.low = edge.high = static_cast<std::uint8_t>(c);
  edge.target = target;
  return edge;
}

}  // namespace

Result<GrammarAutomaton> compile_json_schema(std::string_view schema, const JsonFrame& frame) {
  if (schema.size() > kMaxSchemaBytes) {
    return fail(Errc::invalid_argument, "the schema has {} bytes, at most {} are allowed",
                schema.size(), kMaxSchemaBytes);
  }
  const JsonShape shape = measure_json(schema);
  if (shape.depth > 2 * kMaxDepth) {
    return fail(Errc::invalid_argument, "the schema is nested deeper than {} levels", kMaxDepth);
  }
  if (shape.n_members > kMaxMembers) {
    return fail(Errc::invalid_argument, "an object of the schema has more than {} members",
                kMaxMembers);
  }
  const Json root = Json::parse(schema, nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) return fail(Errc::invalid_argument, "the schema is not valid JSON");
  return SchemaCompiler(root).compile(frame);
}

SchemaCompiler::SchemaCompiler(const Json& root)
    : root_(root), builder_(kLimits), rules_(builder_) {}

Result<GrammarAutomaton> SchemaCompiler::compile(const JsonFrame& frame) {
  const GrammarState start = builder_.add(), space = builder_.add(), value = builder_.add();
  const GrammarState behind = builder_.add(), end = builder_.add();
  builder_.end(end);
  builder_.text(start, frame.prefix, space);
  builder_.call(space, rules_.space(), value);
  LARDER_TRY(refer({&root_, "#"}, "#", {value, behind}));
  builder_.text(behind, frame.suffix, end);
  while (!queue_.empty()) {
    const auto next = std::move(queue_.front());
    queue_.pop_front();
    LARDER_TRY(draw(next.first, next.second));
  }
  auto automaton = std::move(builder_).finish(start);
  if (automaton) return automaton;
  return fail(Errc::invalid_argument, "the schema: {}", automaton.error().message);
}

Result<void> SchemaCompiler::draw(const SchemaPlace& schema, GrammarSpan span) {
  if (builder_.full()) return {};
  if (schema.depth > kMaxDepth) {
    return wrong_schema(schema, fmt::format("it is nested deeper than {} levels", kMaxDepth));
  }
  const Json& json = *schema.json;
  if (json.is_boolean()) {  // anything, or nothing: no way from here
    if (json.get<bool>()) builder_.call(span.from, rules_.any(), span.to);
    return {};
  }
  if (!json.is_object()) return wrong_schema(schema, "it must be an object, true or false");
  if (json.contains("$ref")) {
    LARDER_TRY(allow_only(schema, {"$ref"}));
    if (!json["$ref"].is_string()) return wrong_schema(schema, "'$ref' must be a text");
    return refer(schema, json["$ref"].get<std::string>(), span);
  }
  if (json.contains("anyOf")) return draw_alternatives(schema, span);
  if (json.contains("enum") || json.contains("const")) return draw_values(schema, span);
  LARDER_ASSIGN(const auto names, types(schema));
  for (const std::string& type : names) LARDER_TRY(draw_type(schema, type, span));
  return {};
}

Result<void> SchemaCompiler::draw_alternatives(const SchemaPlace& schema, GrammarSpan span) {
  LARDER_TRY(allow_only(schema, {"anyOf"}));
  const SchemaPlace list = schema.at("anyOf");
  if (!list.json->is_array() || list.json->empty()) {
    return wrong_schema(schema, "'anyOf' must be a list of schemas");
  }
  for (std::size_t i = 0; i < list.json->size(); ++i) {
    const GrammarState own = builder_.add();  // alternatives share no edges
    builder_.empty(span.from, own);
    LARDER_TRY(draw(list.at(i), {own, span.to}));
  }
  return {};
}

/// All keywords but annotations must be among these.
Result<void> SchemaCompiler::allow_only(const SchemaPlace& schema, const Names& keywords) const {
  for (const auto& [keyword, value] : schema.json->items()) {
    if (is_among(kAnnotations, keyword) || keywords.count(keyword) > 0) continue;
    const bool is_known =
        is_among(std::array{"type", "enum", "const", "anyOf", "$ref"}, keyword) ||
        std::any_of(kAssertions.begin(), kAssertions.end(),
                    [&name = keyword](const Assertion& a) { return name == a.keyword; });
    return fail(Errc::unsupported, "the schema at {}: '{}' is not supported{}", schema.place,
                shortened(keyword), is_known ? fmt::format(" beside '{}'", *keywords.begin()) : "");
  }
  return {};
}

/// The types that a value may have: those named, or the one that the keywords speak of, or "any".
Result<std::vector<std::string>> SchemaCompiler::types(const SchemaPlace& schema) const {
  Names known = {"type"}, implied;
  for (const Assertion& assertion : kAssertions) {
    known.insert(assertion.keyword);
    if (schema.json->contains(assertion.keyword)) implied.insert(assertion.type);
  }
  LARDER_TRY(allow_only(schema, known));
  if (schema.json->contains("type")) return named_types(schema);
  if (implied.size() > 1) return wrong_schema(schema, "'type' is missing");
  return std::vector<std::string>{implied.empty() ? "any" : *implied.begin()};
}

Result<std::vector<std::string>> SchemaCompiler::named_types(const SchemaPlace& schema) const {
  const Json& type = (*schema.json)["type"];
  const Json list = type.is_array() ? type : Json::array({type});
  std::vector<std::string> names;
  for (const Json& name : list) {
    if (!name.is_string() || !is_among(kTypes, name.get<std::string>())) {
      return wrong_schema(schema,
                          fmt::format("'type' cannot be {}", shortened(written_json(name))));
    }
    if (!is_among(names, name.get<std::string>())) names.push_back(name.get<std::string>());
  }
  return names;
}

Result<void> SchemaCompiler::draw_type(const SchemaPlace& schema, const std::string& type,
                                       GrammarSpan span) {
  if (type == "object") return draw_object(schema, span);
  if (type == "array") return draw_array(schema, span);
  if (type == "string") {
    LARDER_ASSIGN(const Repeats length, bounds(schema, "minLength", "maxLength"));
    builder_.call(span.from, rules_.string(length), span.to);
  } else if (type == "boolean") {
    rules_.words(span, {"true", "false"});
  } else if (type == "null") {
    rules_.words(span, {"null"});
  } else if (type == "any") {
    builder_.call(span.from, rules_.any(), span.to);
  } else {
    builder_.call(span.from, type == "integer" ? rules_.integer() : rules_.number(), span.to);
  }
  return {};
}

Result<Repeats> SchemaCompiler::bounds(const SchemaPlace& schema, const char* least,
                                       const char* most) const {
  Repeats bounds;
  for (const char* keyword : {least, most}) {
    if (!schema.json->contains(keyword)) continue;
    const Json& value = (*schema.json)[keyword];
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kMaxRepeats) {
      return wrong_schema(
          schema, fmt::format("'{}' must be a whole number from 0 to {}", keyword, kMaxRepeats));
    }
    (keyword == least ? bounds.least : bounds.most) = value.get<std::uint32_t>();
  }
  if (bounds.least <= bounds.most) return bounds;
  return wrong_schema(
      schema, fmt::format("'{}' is {}, '{}' is {}", least, bounds.least, most, bounds.most));
}

Result<void> SchemaCompiler::draw_array(const SchemaPlace& schema, GrammarSpan span) {
  LARDER_ASSIGN(const Repeats n_items, bounds(schema, "minItems", "maxItems"));
  // A rule of its own for the items: what is repeated in them is counted apart.
  const GrammarSpan item{builder_.add(), builder_.add()};
  builder_.end(item.to);
  if (schema.json->contains("items")) {
    LARDER_TRY(draw(schema.at("items"), item));
  } else {
    builder_.call(item.from, rules_.any(), item.to);
  }
  draw_items(n_items, item.from, span);
  return {};
}

/// Each item but the first is counted at the comma before it.
void SchemaCompiler::draw_items(Repeats n_items, GrammarState item, GrammarSpan span) {
  const GrammarState open = builder_.add(n_items), inside = builder_.add(), after = builder_.add();
  const GrammarState comma = builder_.add(), next = builder_.add(), close = builder_.add();
  GrammarEdge bracket = byte_edge('[', open);
  bracket.begins = true;
  builder_.edge(span.from, bracket);
  builder_.call(open, rules_.space(), inside);
  if (n_items.least == 0) builder_.byte(inside, ']', span.to);
  GrammarEdge first;
  first.kind = GrammarEdge::Kind::call;
  first.counts = true;
  first.rule = item;
  first.target = after;
  builder_.edge(inside, first);
  GrammarEdge separator = byte_edge(',', comma);
  separator.counts = true;
  builder_.edge(after, separator);
  builder_.call(comma, rules_.space(), next);
  builder_.call(next, item, after);
  // Space is only read where the list may end, so that it leads somewhere.
  GrammarEdge enough;
  enough.leaves = true;
  enough.target = close;
  builder_.edge(after, enough);
  const GrammarState last = builder_.add();
  builder_.call(close, rules_.space(), last);
  builder_.byte(last, ']', span.to);
}

/// One of a list of values, those of a wrong type left out.
Result<void> SchemaCompiler::draw_values(const SchemaPlace& schema, GrammarSpan span) {
  const char* keyword = schema.json->contains("const") ? "const" : "enum";
  LARDER_TRY(allow_only(schema, {keyword, "type"}));
  std::vector<std::string> allowed;
  if (schema.json->contains("type")) {
    LARDER_ASSIGN(allowed, named_types(schema));
  }
  const SchemaPlace given = schema.at(keyword);
  const bool is_list = std::string_view(keyword) == "enum";
  if (is_list && (!given.json->is_array() || given.json->empty())) {
    return wrong_schema(schema, "'enum' must be a list of values");
  }
  const GrammarState own = builder_.add();  // its values share what they begin with
  builder_.empty(span.from, own);
  std::size_t n_drawn = 0;
  for (std::size_t i = 0; i < (is_list ? given.json->size() : 1); ++i) {
    const SchemaPlace value = is_list ? given.at(i) : given;
    const bool fits = allowed.empty() ||
                      std::any_of(allowed.begin(), allowed.end(),
                                  [&](const auto& type) { return is_of_type(*value.json, type); });
    if (!fits) continue;
    ++n_drawn;
    LARDER_TRY(draw_value(value, {own, span.to}));
  }
  if (n_drawn > 0) return {};
  return wrong_schema(schema, fmt::format("no value of '{}' is of its 'type'", keyword));
}

/// Exactly this value, but for the space between the parts of a list or an object.
Result<void> SchemaCompiler::draw_value(const SchemaPlace& value, GrammarSpan span) {
  if (builder_.full()) return {};
  const Json& json = *value.json;
  if (!json.is_structured()) {
    builder_.text(span.from, written_json(json), span.to);
    return {};
  }
  if (value.depth > kMaxDepth) {
    return wrong_schema(value, fmt::format("it is nested deeper than {} levels", kMaxDepth));
  }
  GrammarState at = builder_.add();
  builder_.byte(span.from, json.is_object() ? '{' : '[', at);
  std::size_t i = 0;
  for (const auto& [key, element] : json.items()) {
    if (i > 0) at = builder_.step(at, ',');
    const GrammarState begin = builder_.add();
    builder_.call(at, rules_.space(), begin);
    at = begin;
    if (json.is_object()) {
      const GrammarState colon = builder_.add(), behind = builder_.add();
      builder_.text(at, written_json(Json(key)) + ":", colon);
      builder_.call(colon, rules_.space(), behind);
      at = behind;
    }
    const GrammarState after = builder_.add();
    LARDER_TRY(draw_value({&element, value.place, value.depth + 1}, {at, after}));
    at = after;
    ++i;
  }
  const GrammarState last = builder_.add();
  builder_.call(at, rules_.space(), last);
  builder_.byte(last, json.is_object() ? '}' : ']', span.to);
  return {};
}

/// A schema that is named: drawn once, called from wherever it is named.
Result<void> SchemaCompiler::refer(const SchemaPlace& schema, const std::string& target,
                                   GrammarSpan span) {
  const Json* found = resolve(target);
  if (found == nullptr) {
    return wrong_schema(schema, fmt::format("'$ref' names {}, which is no place in the schema",
                                            shortened(written_json(Json(target)))));
  }
  const auto known = references_.find(found);
  if (known != references_.end()) {
    builder_.call(span.from, known->second, span.to);
    return {};
  }
  const GrammarSpan rule{builder_.add(), builder_.add()};
  builder_.end(rule.to);
  references_.emplace(found, rule.from);
  queue_.push_back({{found, shortened(target), 0}, rule});
  builder_.call(span.from, rule.from, span.to);
  return {};
}

/// "#", or "#/" and names with ~0 and ~1 for '~' and '/': RFC 6901.
const Json* SchemaCompiler::resolve(std::string_view target) const {
  if (!target.starts_with('#')) return nullptr;
  target.remove_prefix(1);
  const Json* at = &root_;
  while (!target.empty()) {
    if (target.front() != '/') return nullptr;
    target.remove_prefix(1);
    const std::size_t end = std::min(target.find('/'), target.size());
    std::string name;
    for (std::size_t i = 0; i < end; ++i) {
      const bool escaped = target[i] == '~' && i + 1 < end;
      if (escaped) ++i;
      name += escaped ? (target[i] == '1' ? '/' : '~') : target[i];
    }
    target.remove_prefix(end);
    if (at->is_object() && at->contains(name)) {
      at = &(*at)[name];
    } else if (at->is_array()) {
      std::size_t index = 0;
      const auto parsed = std::from_chars(name.data(), name.data() + name.size(), index);
      if (parsed.ec != std::errc{} || parsed.ptr != name.data() + name.size()) return nullptr;
      if (index >= at->size()) return nullptr;
      at = &(*at)[index];
    } else {
      return nullptr;
    }
  }
  return at;
}

}  // namespace larder
