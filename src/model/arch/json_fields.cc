#include "model/arch/json_fields.h"

#include <cmath>
#include <limits>

#include "base/fail.h"

namespace larder {
namespace {

constexpr std::size_t kMaxEntries = 65536;

/// A value as it stands in the file, short enough for a message.
std::string shown(const nlohmann::json& value) {
  if (value.is_structured()) return value.is_array() ? "an array" : "an object";
  auto text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

}  // namespace

const nlohmann::json* JsonFields::find(std::string_view key) const {
  if (!object_.is_object()) return nullptr;
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

bool JsonFields::mentions(std::string_view key) const {
  return object_.is_object() && object_.contains(key);
}

tl::unexpected<Error> JsonFields::wrong_type(std::string_view key, const nlohmann::json& value,
                                             std::string_view expected) const {
  return fail(Errc::corrupt, "{}: field '{}' is {}, expected {}", origin_, key, shown(value),
              expected);
}

Result<std::uint32_t> JsonFields::u32(std::string_view key) const {
  const auto* value = find(key);
  if (value == nullptr) return fail(Errc::not_found, "{}: field '{}' is missing", origin_, key);
  if (!value->is_number_integer() || *value < 0 ||
      *value > std::numeric_limits<std::uint32_t>::max()) {
    return wrong_type(key, *value, "a whole number from 0 to 4294967295");
  }
  return value->get<std::uint32_t>();
}

Result<std::uint32_t> JsonFields::u32_or(std::string_view key, std::uint32_t absent) const {
  if (!has(key)) return absent;
  return u32(key);
}

Result<float> JsonFields::f32(std::string_view key) const {
  const auto* value = find(key);
  if (value == nullptr) return fail(Errc::not_found, "{}: field '{}' is missing", origin_, key);
  if (!value->is_number()) return wrong_type(key, *value, "a number");
  const double number = value->get<double>();
  if (!(std::abs(number) <= std::numeric_limits<float>::max())) {
    return wrong_type(key, *value, "a number that fits 32 bits");
  }
  return static_cast<float>(number);
}

Result<float> JsonFields::f32_or(std::string_view key, float absent) const {
  if (!has(key)) return absent;
  return f32(key);
}

Result<bool> JsonFields::bool_or(std::string_view key, bool absent) const {
  const auto* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) return wrong_type(key, *value, "true or false");
  return value->get<bool>();
}

Result<std::string> JsonFields::string_or(std::string_view key, std::string absent) const {
  const auto* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_string()) return wrong_type(key, *value, "a string");
  return value->get<std::string>();
}

Result<std::vector<float>> JsonFields::floats(std::string_view key) const {
  const auto* value = find(key);
  if (value == nullptr) return fail(Errc::not_found, "{}: field '{}' is missing", origin_, key);
  if (!value->is_array() || value->size() > kMaxEntries) {
    return wrong_type(key, *value, "an array of at most 65536 numbers");
  }
  std::vector<float> out;
  for (const auto& entry : *value) {
    if (!entry.is_number()) return wrong_type(key, entry, "an array of numbers");
    const double number = entry.get<double>();
    if (!(std::abs(number) <= std::numeric_limits<float>::max())) {
      return wrong_type(key, entry, "numbers that fit 32 bits");
    }
    out.push_back(static_cast<float>(number));
  }
  return out;
}

Result<std::vector<std::uint32_t>> JsonFields::u32s(std::string_view key) const {
  const auto* value = find(key);
  if (value == nullptr) return fail(Errc::not_found, "{}: field '{}' is missing", origin_, key);
  if (!value->is_array() || value->size() > kMaxEntries) {
    return wrong_type(key, *value, "an array of at most 65536 whole numbers");
  }
  std::vector<std::uint32_t> out;
  for (const auto& entry : *value) {
    if (!entry.is_number_integer() || entry < 0 ||
        entry > std::numeric_limits<std::uint32_t>::max()) {
      return wrong_type(key, entry, "whole numbers from 0 to 4294967295");
    }
    out.push_back(entry.get<std::uint32_t>());
  }
  return out;
}

Result<std::vector<std::string>> JsonFields::strings(std::string_view key) const {
  const auto* value = find(key);
  std::vector<std::string> out;
  if (value == nullptr) return out;
  if (!value->is_array() || value->size() > kMaxEntries) {
    return wrong_type(key, *value, "an array of at most 65536 strings");
  }
  for (const auto& entry : *value) {
    if (!entry.is_string()) return wrong_type(key, entry, "an array of strings");
    out.push_back(entry.get<std::string>());
  }
  return out;
}

Result<JsonFields> JsonFields::object(std::string_view key) const {
  const auto* value = find(key);
  if (value == nullptr) return fail(Errc::not_found, "{}: field '{}' is missing", origin_, key);
  if (!value->is_object()) return wrong_type(key, *value, "an object");
  return JsonFields(*value, fmt::format("{}: {}", origin_, key));
}

}  // namespace larder
