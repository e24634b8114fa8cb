// JSON of strangers: limits first, then a value whose fields are read by name and type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "server/api_error.h"

namespace larder {

struct JsonLimits {
  std::size_t depth = 32;
  std::size_t n_values = std::size_t{1} << 20;  // of all lists and objects together
  std::size_t n_members = 2048;  // of one object: each name is compared with those before it
};

inline constexpr std::size_t kMaxText = std::size_t{1} << 30;  // the body is bounded already
inline constexpr std::size_t kMaxNameBytes = 1024;             // of a model or a cache_salt

/// Parses a request body into an object. The limits hold before anything is allocated by it.
/// Errors (400): not JSON (with the place), ill-formed UTF-8, not an object, beyond the limits.
ApiResult<nlohmann::ordered_json> parse_object(std::string_view text,
                                               const JsonLimits& limits = {});

/// Reads the fields of an object. A missing field and `null` are the same. The first thing that is
/// wrong becomes `error()`; reading goes on, so that callers check once, at the end.
class FieldReader {
 public:
  /// `object` must be a JSON object and outlive the reader. `prefix` stands before the names in
  /// messages: "messages[2].".
  explicit FieldReader(const nlohmann::ordered_json& object, std::string prefix = {});

  const nlohmann::ordered_json* any(const char* name);
  std::optional<bool> boolean(const char* name);
  /// A whole number; 3.0 is one too.
  std::optional<std::int64_t> integer(const char* name, std::int64_t low, std::int64_t high);
  std::optional<double> number(const char* name, double low, double high);
  std::optional<std::string> text(const char* name, std::size_t max_bytes);
  /// Refuses the field if it is there: silence would change what the answer means.
  void unsupported(const char* name, const char* why);

  void wrong(std::string_view name, std::string message, const char* code = nullptr);
  const std::optional<ApiError>& error() const noexcept { return error_; }
  /// Takes over the error of another reader, unless there is one already.
  void adopt(const FieldReader& other);
  /// Names of the fields that nobody asked for, with their prefix.
  std::vector<std::string> unread() const;

 private:
  const nlohmann::ordered_json& object_;
  const std::string prefix_;
  std::set<std::string, std::less<>> asked_;
  std::optional<ApiError> error_;
};

/// The ids of a list; `fields` hears of the first value that is no id of a model with `n_vocab`.
std::vector<std::int32_t> read_token_ids(FieldReader& fields, const char* name,
                                         const nlohmann::ordered_json& list, std::uint32_t n_vocab);

/// The value as JSON text for a message, shortened to some forty characters.
std::string shown(const nlohmann::ordered_json& value);
/// A whole number in the range, whatever way it is written.
std::optional<std::int64_t> whole_number(const nlohmann::ordered_json& value, std::int64_t low,
                                         std::int64_t high);

}  // namespace larder
