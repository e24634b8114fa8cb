// Objects of a schema: which member may follow which.
#include <fmt/format.h>

#include "base/fail.h"
#include "grammar/schema_compiler.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxMembers = 512;  // of one object

}  // namespace

Result<SchemaCompiler::Names> SchemaCompiler::required(const SchemaPlace& schema,
                                                       const Json& members) const {
  Names names;
  if (!schema.json->contains("required")) return names;
  const Json& list = (*schema.json)["required"];
  if (!list.is_array() || list.size() > kMaxMembers) {
    return wrong_schema(schema, "'required' must be a list of names");
  }
  for (const Json& name : list) {
    if (!name.is_string()) return wrong_schema(schema, "'required' must be a list of names");
    if (!members.contains(name.get<std::string>())) {
      return fail(Errc::unsupported,
                  "the schema at {}: 'required' names {}, which 'properties' does not describe",
                  schema.place, shortened(written_json(name)));
    }
    names.insert(name.get<std::string>());
  }
  return names;
}

/// Members stand in the order of `properties`. From each place those are open that come up to the
/// first required one. Behind them all come others, if they are allowed.
Result<void> SchemaCompiler::draw_object(const SchemaPlace& schema, GrammarSpan span) {
  const bool describes = schema.json->contains("properties");
  const bool says = schema.json->contains("additionalProperties");
  if (!describes && !says && !schema.json->contains("required")) {
    builder_.call(span.from, rules_.any_object(), span.to);
    return {};
  }
  const Json none = Json::object();
  const Json& members = describes ? (*schema.json)["properties"] : none;
  if (!members.is_object() || members.size() > kMaxMembers) {
    return wrong_schema(schema,
                        fmt::format("'properties' must be an object of at most {}", kMaxMembers));
  }
  LARDER_ASSIGN(const Names needed, required(schema, members));
  // Where nothing is written yet; behind a comma; behind a member. Member i is the next to choose.
  const std::size_t n = members.size();
  std::vector<GrammarState> first(n + 1), next(n + 1), after(n + 1);
  for (auto* states : {&first, &next, &after}) {
    for (GrammarState& state : *states) state = builder_.add();
  }
  const GrammarState open = builder_.add(), close = builder_.add();
  builder_.byte(span.from, '{', open);
  builder_.call(open, rules_.space(), first[0]);
  builder_.byte(close, '}', span.to);
  builder_.empty(first[n], close);
  std::size_t i = 0, n_needed = needed.size();
  const auto may_follow = [&](std::size_t place) {
    const GrammarState comma = builder_.add();
    builder_.byte(after[place], ',', comma);
    builder_.call(comma, rules_.space(), next[place]);
    if (n_needed == 0) builder_.call(after[place], rules_.space(), close);
  };
  for (const auto& [name, value] : members.items()) {
    const GrammarState member = builder_.add(), colon = builder_.add();
    for (const GrammarState from : {first[i], next[i]}) builder_.empty(from, member);
    builder_.text(member, written_json(Json(name)) + ":", colon);
    const SchemaPlace place = schema.inside(value, "properties/" + name);
    LARDER_TRY(draw_member(place, colon, after[i + 1]));
    if (needed.count(name) > 0) {
      --n_needed;
    } else {
      builder_.empty(first[i], first[i + 1]);
      builder_.empty(next[i], next[i + 1]);
    }
    may_follow(++i);
  }
  const bool is_closed = says && (*schema.json)["additionalProperties"] == false;
  if (!is_closed && (says || !describes)) {
    if (n == 0) may_follow(0);
    const GrammarState other = builder_.add();
    for (const GrammarState from : {first[n], next[n]}) builder_.empty(from, other);
    LARDER_TRY(draw_others(schema, other, after[n]));
  }
  return {};
}

Result<void> SchemaCompiler::draw_member(const SchemaPlace& value, GrammarState colon,
                                         GrammarState after) {
  const GrammarState before = builder_.add();
  builder_.call(colon, rules_.space(), before);
  return draw(value, {before, after});
}

/// A member that `properties` does not name.
Result<void> SchemaCompiler::draw_others(const SchemaPlace& schema, GrammarState from,
                                         GrammarState after) {
  const GrammarState name = builder_.add(), colon = builder_.add(), value = builder_.add();
  builder_.byte(from, '"', name);
  builder_.byte(colon, ':', value);
  Names names;
  if (schema.json->contains("properties")) {
    for (const auto& [known, of_known] : (*schema.json)["properties"].items()) {
      const std::string quoted = written_json(Json(known));
      names.insert(quoted.substr(1, quoted.size() - 2));
    }
  }
  rules_.other_name({name, colon}, names);
  if (schema.json->contains("additionalProperties")) {
    return draw_member(schema.at("additionalProperties"), value, after);
  }
  const GrammarState before = builder_.add();
  builder_.call(value, rules_.space(), before);
  builder_.call(before, rules_.any(), after);
  return {};
}

}  // namespace larder
