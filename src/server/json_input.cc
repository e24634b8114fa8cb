#include "server/json_input.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/json_shape.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

ApiError bad_json(std::string message) {
  return {400, std::move(message), std::nullopt, "invalid_json"};
}

std::optional<ApiError> check_limits(std::string_view text, const JsonLimits& limits) {
  const JsonShape shape = measure_json(text);
  if (shape.depth > limits.depth) {
    return bad_json(fmt::format("the JSON is nested deeper than {} levels", limits.depth));
  }
  if (shape.n_values > limits.n_values) {
    return bad_json(fmt::format("the JSON has more than {} values", limits.n_values));
  }
  if (shape.n_members > limits.n_members) {
    return bad_json(
        fmt::format("an object of the JSON has more than {} members", limits.n_members));
  }
  return std::nullopt;
}

/// "[json.exception.parse_error.101] parse error at line 1, ..." without its label.
std::string without_label(std::string_view what) {
  const std::size_t end = what.find("] ");
  return std::string(end == std::string_view::npos ? what : what.substr(end + 2));
}

}  // namespace

ApiResult<Json> parse_object(std::string_view text, const JsonLimits& limits) {
  if (auto error = check_limits(text, limits)) return refuse(std::move(*error));
  Json json;
  try {  // the library's one way of saying where the text is wrong
    json = Json::parse(text);
  } catch (const Json::exception& e) {
    return refuse(bad_json("the body is not valid JSON: " + without_label(e.what())));
  }
  if (!json.is_object()) {
    return refuse(bad_json(fmt::format("the body must be a JSON object, not {}", shown(json))));
  }
  return json;
}

std::string shown(const Json& value) {
  constexpr std::size_t kMost = 40;
  if (value.is_array() || value.is_object()) {
    return fmt::format("{} of {}", value.is_array() ? "a list" : "an object", value.size());
  }
  if (value.is_string() && value.get_ref<const std::string&>().size() > kMost) {
    return fmt::format("a text of {} bytes", value.get_ref<const std::string&>().size());
  }
  return value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

std::optional<std::int64_t> whole_number(const Json& value, std::int64_t low, std::int64_t high) {
  std::int64_t n = 0;
  if (value.is_number_unsigned()) {
    const auto u = value.get<std::uint64_t>();
    if (u > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
    n = static_cast<std::int64_t>(u);
  } else if (value.is_number_integer()) {
    n = value.get<std::int64_t>();
  } else if (value.is_number_float()) {
    const auto d = value.get<double>();
    if (!(std::abs(d) < 0x1p53) || std::trunc(d) != d) return std::nullopt;
    n = static_cast<std::int64_t>(d);
  } else {
    return std::nullopt;
  }
  return n >= low && n <= high ? std::optional(n) : std::nullopt;
}

FieldReader::FieldReader(const Json& object, std::string prefix)
    : object_(object), prefix_(std::move(prefix)) {}

const Json* FieldReader::any(const char* name) {
  asked_.insert(name);
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::optional<bool> FieldReader::boolean(const char* name) {
  const Json* value = any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  wrong(name, fmt::format("must be true or false, not {}", shown(*value)));
  return std::nullopt;
}

std::optional<std::int64_t> FieldReader::integer(const char* name, std::int64_t low,
                                                 std::int64_t high) {
  const Json* value = any(name);
  if (value == nullptr) return std::nullopt;
  if (const auto n = whole_number(*value, low, high)) return n;
  wrong(name,
        fmt::format("must be a whole number from {} to {}, not {}", low, high, shown(*value)));
  return std::nullopt;
}

std::optional<double> FieldReader::number(const char* name, double low, double high) {
  const Json* value = any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) {
    const auto d = value->get<double>();
    if (d >= low && d <= high) return d;
  }
  wrong(name, fmt::format("must be a number from {} to {}, not {}", low, high, shown(*value)));
  return std::nullopt;
}

std::optional<std::string> FieldReader::text(const char* name, std::size_t max_bytes) {
  const Json* value = any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string() && value->get_ref<const std::string&>().size() <= max_bytes) {
    return value->get<std::string>();
  }
  wrong(name, fmt::format("must be a text of at most {} bytes, not {}", max_bytes, shown(*value)));
  return std::nullopt;
}

void FieldReader::unsupported(const char* name, const char* why) {
  if (any(name) != nullptr) wrong(name, fmt::format("is not supported: {}", why), "unsupported");
}

void FieldReader::wrong(std::string_view name, std::string message, const char* code) {
  if (error_) return;
  const std::string field = prefix_ + std::string(name);
  error_ = ApiError{400, fmt::format("'{}' {}", field, message), field, std::nullopt};
  error_->code = code != nullptr ? code : "invalid_value";
}

void FieldReader::adopt(const FieldReader& other) {
  if (!error_) error_ = other.error_;
}

std::vector<std::string> FieldReader::unread() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_.items()) {
    if (asked_.find(name) == asked_.end()) names.push_back(prefix_ + name);
  }
  return names;
}

std::vector<std::int32_t> read_token_ids(FieldReader& fields, const char* name,
                                         const nlohmann::ordered_json& list,
                                         std::uint32_t n_vocab) {
  std::vector<std::int32_t> ids;
  if (!list.is_array()) {
    fields.wrong(name, "must be a list of token ids");
    return ids;
  }
  for (const auto& value : list) {
    const auto id = whole_number(value, 0, std::int64_t{n_vocab} - 1);
    if (!id) {
      fields.wrong(name, fmt::format("must be ids of the model, not {}", shown(value)));
      break;
    }
    ids.push_back(static_cast<std::int32_t>(*id));
  }
  return ids;
}

}  // namespace larder
