// Where something stands in a schema, and what is said about it.
#include <utility>

#include "base/fail.h"
#include "grammar/schema_compiler.h"

namespace larder {

tl::unexpected<Error> wrong_schema(const SchemaPlace& schema, const std::string& message) {
  return fail(Errc::invalid_argument, "the schema at {}: {}", schema.place, message);
}

std::string written_json(const nlohmann::ordered_json& value) { return value.dump(); }

std::string shortened(std::string text) {
  constexpr std::size_t kMost = 80;
  if (text.size() <= kMost) return text;
  std::size_t n = kMost;  // not within a character
  while (n > 0 && (static_cast<unsigned char>(text[n]) & 0xC0U) == 0x80U) --n;
  text.resize(n);
  return text + "...";
}

SchemaPlace SchemaPlace::inside(const nlohmann::ordered_json& part, std::string_view name) const {
  constexpr std::size_t kMost = 400;  // every place carries its own
  if (place.size() > kMost) return {&part, place, depth + 1};
  return {&part, place + "/" + shortened(std::string(name)), depth + 1};
}

}  // namespace larder
