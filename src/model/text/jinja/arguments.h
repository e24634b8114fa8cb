// Arguments of a call, a filter or a test.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/text/jinja/value.h"

namespace larder::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  /// One pointer for each parameter, null where it was not given. Errors: too many, unknown names,
  /// fewer than `n_required`.
  Result<std::vector<const Value*>> bind(std::initializer_list<std::string_view> parameters,
                                         std::size_t n_required = 0) const;
};

/// What a bound argument must be; `otherwise` when it is absent or None.
Result<std::int64_t> integer_argument(const Value* value, std::int64_t otherwise);
Result<std::string> text_argument(const Value* value, std::string_view otherwise);
bool flag_argument(const Value* value, bool otherwise);

}  // namespace larder::jinja
