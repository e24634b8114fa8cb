// Values as text: Python's str() and repr(), and json.dumps.
#pragma once

#include <string>

#include "model/text/jinja/value.h"

namespace larder::jinja {

/// str(value) as a template prints it: "" for undefined, True, None, 1.0, {'a': [1, 'b']}.
/// Errors: longer than kMaxTextBytes; a namespace, loop or function (they have no useful text).
Result<std::string> to_text(const Value& value);

struct JsonStyle {
  bool ensure_ascii = false;
  bool multi_line = false;
  std::string indent;  // of one level, when multi_line
  std::string item_separator = ", ", key_separator = ": ";
  bool sort_keys = false;
};
/// json.dumps(value). Errors: as above, and undefined values.
Result<std::string> to_json(const Value& value, const JsonStyle& style);

}  // namespace larder::jinja
