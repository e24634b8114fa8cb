#include "model/text/jinja/filters.h"

namespace larder::jinja {

Result<Value> apply_filter(std::string_view name, const Value& input, const Arguments& arguments,
                           Budget& budget) {
  Filter filter = find_text_filter(name);
  if (filter == nullptr) filter = find_sequence_filter(name);
  if (filter == nullptr) {
    return fail(Errc::unsupported, "the filter '{}' is not supported", name.substr(0, 40));
  }
  auto result = filter(input, arguments, budget);
  if (!result) {
    return fail(result.error().code, "filter '{}': {}", name, result.error().message);
  }
  return result;
}

}  // namespace larder::jinja
