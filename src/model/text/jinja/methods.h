// Methods of strings, dicts and lists, the pure ones (a sandbox refuses those that change a value),
// and the global functions range, dict, raise_exception and strftime_now.
#pragma once

#include <ctime>
#include <string_view>

#include "model/text/jinja/arguments.h"

namespace larder::jinja {

/// The method's own name as a literal; empty when values of this kind have no such method.
std::string_view find_method(const Value& object, std::string_view name) noexcept;
/// REQUIRES: find_method(object, name) is not empty.
Result<Value> call_method(const Value& object, std::string_view name, const Arguments& arguments,
                          Budget& budget);

/// The function's name as a literal; empty when there is none. `namespace` is the interpreter's.
std::string_view find_function(std::string_view name) noexcept;
/// `now`: the local time of strftime_now. Errors: invalid_argument with the template's own message
/// for raise_exception.
Result<Value> call_function(std::string_view name, const Arguments& arguments, const std::tm& now,
                            Budget& budget);

}  // namespace larder::jinja
