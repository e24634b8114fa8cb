// The inside of compile_json_schema.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/json_rules.h"
#include "grammar/json_schema.h"
#include "larder/result.h"

namespace larder {

/// A schema and where it stands, as the fragment of a URI: "#/properties/name".
struct SchemaPlace {
  const nlohmann::ordered_json* json = nullptr;
  std::string place;
  std::size_t depth = 0;

  /// REQUIRES: an object that has the key
  SchemaPlace at(const std::string& key) const { return inside((*json)[key], key); }
  SchemaPlace at(std::size_t index) const { return inside((*json)[index], std::to_string(index)); }
  /// A part of the schema by its name. Long names are cut.
  SchemaPlace inside(const nlohmann::ordered_json& part, std::string_view name) const;
};

/// Draws a schema as states. One use.
class SchemaCompiler {
 public:
  /// `root` must outlive it.
  explicit SchemaCompiler(const nlohmann::ordered_json& root);
  Result<GrammarAutomaton> compile(const JsonFrame& frame);

 private:
  using Names = std::set<std::string>;
  Result<void> draw(const SchemaPlace& schema, GrammarSpan span);
  Result<void> draw_alternatives(const SchemaPlace& schema, GrammarSpan span);
  Result<void> draw_type(const SchemaPlace& schema, const std::string& type, GrammarSpan span);
  Result<void> draw_object(const SchemaPlace& schema, GrammarSpan span);
  Result<void> draw_member(const SchemaPlace& value, GrammarState colon, GrammarState after);
  Result<void> draw_others(const SchemaPlace& schema, GrammarState from, GrammarState after);
  Result<void> draw_array(const SchemaPlace& schema, GrammarSpan span);
  void draw_items(Repeats n_items, GrammarState item, GrammarSpan span);
  Result<void> draw_values(const SchemaPlace& schema, GrammarSpan span);
  Result<void> draw_value(const SchemaPlace& value, GrammarSpan span);
  Result<void> refer(const SchemaPlace& schema, const std::string& target, GrammarSpan span);

  Result<void> allow_only(const SchemaPlace& schema, const Names& keywords) const;
  Result<std::vector<std::string>> types(const SchemaPlace& schema) const;
  Result<std::vector<std::string>> named_types(const SchemaPlace& schema) const;
  Result<Repeats> bounds(const SchemaPlace& schema, const char* least, const char* most) const;
  Result<Names> required(const SchemaPlace& schema, const nlohmann::ordered_json& members) const;
  const nlohmann::ordered_json* resolve(std::string_view target) const;

  const nlohmann::ordered_json& root_;
  GrammarBuilder builder_;
  JsonRules rules_;
  std::map<const nlohmann::ordered_json*, GrammarState> references_;
  std::deque<std::pair<SchemaPlace, GrammarSpan>> queue_;  // referred to, not yet drawn
};

/// "the schema at #/items: ..."
tl::unexpected<Error> wrong_schema(const SchemaPlace& schema, const std::string& message);
/// JSON text without spaces.
std::string written_json(const nlohmann::ordered_json& value);
/// For a message: the beginning of a long text.
std::string shortened(std::string text);

}  // namespace larder
