// API keys.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace larder {

/// Immutable; thread-safe.
class ApiKeys {
 public:
  explicit ApiKeys(std::vector<std::string> keys) : keys_(std::move(keys)) {}
  /// Whether an Authorization header ("Bearer KEY") may pass; any may when there are no keys. The
  /// time it takes depends on the length of the header and the keys, never on where they differ.
  bool allow(std::string_view authorization) const noexcept;

 private:
  std::vector<std::string> keys_;
};

}  // namespace larder
