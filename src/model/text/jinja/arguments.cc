#include "model/text/jinja/arguments.h"

#include <algorithm>

namespace larder::jinja {

Result<std::vector<const Value*>> Arguments::bind(
    std::initializer_list<std::string_view> parameters, std::size_t n_required) const {
  std::vector<const Value*> bound(parameters.size(), nullptr);
  if (positional.size() > parameters.size()) {
    return fail(Errc::invalid_argument, "{} arguments given, at most {} taken", positional.size(),
                parameters.size());
  }
  for (std::size_t i = 0; i < positional.size(); ++i) bound[i] = &positional[i];
  for (const auto& [name, value] : named) {
    const auto it = std::find(parameters.begin(), parameters.end(), name);
    if (it == parameters.end()) {
      return fail(Errc::invalid_argument, "there is no parameter '{}'", name.substr(0, 40));
    }
    bound[static_cast<std::size_t>(it - parameters.begin())] = &value;
  }
  for (std::size_t i = 0; i < n_required; ++i) {
    if (bound[i] == nullptr) {
      return fail(Errc::invalid_argument, "the argument '{}' is missing", parameters.begin()[i]);
    }
  }
  return bound;
}

Result<std::int64_t> integer_argument(const Value* value, std::int64_t otherwise) {
  if (value == nullptr || value->is(Kind::none)) return otherwise;
  if (!value->is_integral()) {
    return fail(Errc::invalid_argument, "{} where an integer is needed", value->describe());
  }
  return value->integral();
}

Result<std::string> text_argument(const Value* value, std::string_view otherwise) {
  if (value == nullptr || value->is(Kind::none)) return std::string(otherwise);
  if (!value->is(Kind::text)) {
    return fail(Errc::invalid_argument, "{} where a string is needed", value->describe());
  }
  return value->text();
}

bool flag_argument(const Value* value, bool otherwise) {
  return value == nullptr ? otherwise : value->truthy();
}

}  // namespace larder::jinja
