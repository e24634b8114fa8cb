// Filters, "value | name(arguments)", and tests, "value is name(arguments)": Jinja's built-in ones
// that chat templates use, with tojson as `transformers` defines it.
#pragma once

#include <string_view>

#include "model/text/jinja/arguments.h"

namespace larder::jinja {

using Filter = Result<Value> (*)(const Value& input, const Arguments& arguments, Budget& budget);

/// Errors: unsupported (no such filter), what the filter refuses.
Result<Value> apply_filter(std::string_view name, const Value& input, const Arguments& arguments,
                           Budget& budget);
/// Errors: unsupported (no such test), what the test refuses.
Result<bool> apply_test(std::string_view name, const Value& input, const Arguments& arguments,
                        Budget& budget);

/// Null when there is none of that name.
Filter find_text_filter(std::string_view name) noexcept;      // text and numbers
Filter find_sequence_filter(std::string_view name) noexcept;  // lists and dicts

/// A dotted path into a value, as attribute= of several filters takes it: "function.name", "0".
Result<Value> attribute_at(const Value& object, const Value& path, Budget& budget);

}  // namespace larder::jinja
