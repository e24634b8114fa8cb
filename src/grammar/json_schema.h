// JSON Schema to an automaton that writes what satisfies it.
#pragma once

#include <string>
#include <string_view>

#include "grammar/automaton.h"
#include "larder/result.h"

namespace larder {

/// What stands around the value.
struct JsonFrame {
  std::string prefix, suffix;
};

/// A subset of JSON Schema 2020-12: type, properties, required, additionalProperties, items,
/// minItems, maxItems, enum, const, anyOf, minLength, maxLength, $ref to places of the same schema,
/// true, and annotations (title, description, default, ...). Whatever comes out satisfies the
/// schema; not all that satisfies it can come out: members stand in the order of `properties`,
/// others only where additionalProperties is there, and see JsonRules. A schema without `type` that
/// speaks of one kind of value means that kind.
/// `schema` is untrusted: limits on its size, depth and states hold before memory is taken.
/// Errors: invalid_argument (not JSON, ill-formed, nothing can satisfy it), unsupported (another
/// keyword); both name the keyword and its place.
Result<GrammarAutomaton> compile_json_schema(std::string_view schema, const JsonFrame& frame = {});

}  // namespace larder
