// Random schemas of the subset, and a validator that shares nothing with the compiler.
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace larder {

using Json = nlohmann::ordered_json;

inline std::size_t n_characters(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

inline bool has_type(const Json& value, const std::string& type) {
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  return type == "array" ? value.is_array() : value.is_object();
}

bool satisfies(const Json& value, const Json& schema, const Json& root);

inline bool object_satisfies(const Json& value, const Json& schema, const Json& root) {
  const Json properties = schema.value("properties", Json::object());
  for (const Json& name : schema.value("required", Json::array())) {
    if (!value.contains(name.get<std::string>())) return false;
  }
  for (const auto& [name, member] : value.items()) {
    const Json& of_member = properties.contains(name)
                                ? properties.at(name)
                                : schema.value("additionalProperties", Json(true));
    if (!satisfies(member, of_member, root)) return false;
  }
  return true;
}

/// By the words of JSON Schema 2020-12, as far as the subset goes.
inline bool satisfies(const Json& value, const Json& schema, const Json& root) {
  if (schema.is_boolean()) return schema.get<bool>();
  if (schema.contains("$ref")) {
    const std::string target = schema.at("$ref");
    return satisfies(value, target == "#" ? root : root.at(Json::json_pointer(target.substr(1))),
                     root);
  }
  if (schema.contains("type")) {
    const Json& type = schema.at("type");
    const Json list = type.is_array() ? type : Json::array({type});
    if (std::none_of(list.begin(), list.end(), [&](const Json& t) { return has_type(value, t); })) {
      return false;
    }
  }
  if (schema.contains("const") && value != schema.at("const")) return false;
  const auto is_one_of = [&](const Json& list) {
    return std::find(list.begin(), list.end(), value) != list.end();
  };
  if (schema.contains("enum") && !is_one_of(schema.at("enum"))) return false;
  if (schema.contains("anyOf")) {
    const Json& list = schema.at("anyOf");
    if (std::none_of(list.begin(), list.end(),
                     [&](const Json& s) { return satisfies(value, s, root); })) {
      return false;
    }
  }
  const auto within = [&](std::size_t n, const char* least, const char* most) {
    return n >= schema.value(least, std::size_t{0}) && n <= schema.value(most, SIZE_MAX);
  };
  if (value.is_string()) return within(n_characters(value), "minLength", "maxLength");
  if (value.is_array()) {
    return within(value.size(), "minItems", "maxItems") &&
           std::all_of(value.begin(), value.end(), [&](const Json& item) {
             return satisfies(item, schema.value("items", Json(true)), root);
           });
  }
  return !value.is_object() || object_satisfies(value, schema, root);
}

/// Draws schemas of all the keywords, nested up to a depth.
class RandomSchemas {
 public:
  explicit RandomSchemas(std::uint32_t seed) : random_(seed) {}

  Json next() {
    Json schema = draw(3);
    if (schema.is_boolean()) schema = {{"anyOf", Json::array({schema, {{"type", "null"}}})}};
    // The definition is finite whatever it holds: it may always be null. It reads something before
    // it comes back to itself.
    const Json again = below(2) > 0 ? array(2) : object(2);
    schema["$defs"]["d"] = {{"anyOf", Json::array({{{"type", "null"}}, again})}};
    return schema;
  }

 private:
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(random_() % n); }

  Json draw(unsigned depth) {
    switch (below(depth > 0 ? 12 : 7)) {
      case 0:
        return {{"type", "integer"}, {"title", "a number"}};
      case 1:
        return {{"type", Json::array({"number", "null"})}};
      case 2:
        return {{"type", "boolean"}};
      case 3:
        return string();
      case 4:
        return {{"enum", Json::array({"ab", "abc", 1, 12, -3.5, nullptr, "a\"\n\xC3\xA9"})}};
      case 5:
        return {{"const", {{"x", Json::array({1, "y", true})}, {"z", Json::object()}}}};
      case 6:
        return {{"$ref", "#/$defs/d"}};
      case 7:
      case 8:
        return array(depth);
      case 9:
        return {{"anyOf", Json::array({draw(depth - 1), draw(depth - 1)})}};
      default:
        return object(depth);
    }
  }

  Json string() {
    Json schema = {{"type", "string"}};
    if (below(2) > 0) schema["maxLength"] = 2 + below(9);
    if (below(3) == 0) schema["minLength"] = below(3);
    return schema;
  }

  Json array(unsigned depth) {
    Json schema = {{"type", "array"}, {"items", draw(depth - 1)}, {"maxItems", 1 + below(4)}};
    if (below(2) > 0) schema["minItems"] = below(2);
    return schema;
  }

  Json object(unsigned depth) {
    Json schema = {{"type", "object"}, {"properties", Json::object()}};
    Json needed = Json::array();
    for (const char* name : {"a", "ab", "b c", "\xC3\xBC\"", "\xC3\xA9"}) {
      if (below(2) > 0) continue;
      schema["properties"][name] = draw(depth - 1);
      if (below(2) > 0) needed.push_back(name);
    }
    if (below(2) > 0) schema["required"] = needed;
    const std::uint32_t others = below(4);
    if (others == 0) schema["additionalProperties"] = false;
    if (others == 1) schema["additionalProperties"] = draw(depth - 1);
    return schema;
  }

  std::mt19937 random_;
};

}  // namespace larder
