#include "server/auth.h"

#include <cstddef>

namespace larder {
namespace {

/// 0 when equal. REQUIRES: `key` is not empty
unsigned difference(std::string_view given, std::string_view key) noexcept {
  unsigned bits = given.size() == key.size() ? 0 : 1;
  for (std::size_t i = 0; i < given.size(); ++i) {
    bits |= static_cast<unsigned>(static_cast<unsigned char>(given[i]) ^
                                  static_cast<unsigned char>(key[i % key.size()]));
  }
  return bits;
}

bool is_bearer(std::string_view authorization) noexcept {
  constexpr std::string_view kScheme = "bearer ";  // letters of either case: RFC 9110, 11.1
  if (authorization.size() < kScheme.size()) return false;
  for (std::size_t i = 0; i < kScheme.size(); ++i) {
    const char c = authorization[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c) != kScheme[i]) return false;
  }
  return true;
}

}  // namespace

bool ApiKeys::allow(std::string_view authorization) const noexcept {
  if (keys_.empty()) return true;
  if (!is_bearer(authorization)) return false;
  const std::string_view given = authorization.substr(std::string_view("bearer ").size());
  unsigned n_equal = 0;
  for (const std::string& key : keys_) {
    if (!key.empty()) n_equal += difference(given, key) == 0 ? 1U : 0U;
  }
  return n_equal > 0;
}

}  // namespace larder
