// Typed look-ups in a JSON object from a file, with messages that name file, field and value.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"

namespace larder {

/// Borrows the object. A field that is null counts as absent, as it does for `transformers`.
/// Errors of every look-up: not_found (a required field is absent), corrupt (wrong type or range).
class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::string origin)
      : object_(object), origin_(std::move(origin)) {}

  const std::string& origin() const noexcept { return origin_; }
  /// Null when absent.
  const nlohmann::json* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }
  /// The key is there, be its value null.
  bool mentions(std::string_view key) const;
  Result<std::uint32_t> u32(std::string_view key) const;  // required
  Result<std::uint32_t> u32_or(std::string_view key, std::uint32_t absent) const;
  Result<float> f32(std::string_view key) const;
  Result<float> f32_or(std::string_view key, float absent) const;
  Result<bool> bool_or(std::string_view key, bool absent) const;
  Result<std::string> string_or(std::string_view key, std::string absent) const;
  /// Required; at most 64k entries.
  Result<std::vector<float>> floats(std::string_view key) const;
  /// Required; whole numbers, at most 64k entries.
  Result<std::vector<std::uint32_t>> u32s(std::string_view key) const;
  /// Empty when absent; at most 64k entries.
  Result<std::vector<std::string>> strings(std::string_view key) const;
  /// A nested object under `key`, whose messages call it "origin: key"; not_found when absent.
  Result<JsonFields> object(std::string_view key) const;

 private:
  tl::unexpected<Error> wrong_type(std::string_view key, const nlohmann::json& value,
                                   std::string_view expected) const;

  const nlohmann::json& object_;
  std::string origin_;
};

}  // namespace larder
