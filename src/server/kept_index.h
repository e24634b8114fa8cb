// Which finished requests have a cache that could help the next one.
#pragma once

#include <cstddef>
#include <list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/engine.h"

namespace larder {

/// Remembers the tokens of requests whose cache the engine keeps, and finds the one that begins
/// like a new prompt. Compares the tokens themselves, never a hash. Requests with different salts
/// share nothing. Decides over ids; the engine owns the caches and may have dropped one under
/// memory pressure, which costs nothing but the reuse. Not thread-safe.
class KeptIndex {
 public:
  explicit KeptIndex(std::size_t max_entries) : max_entries_(max_entries) {}

  /// The request whose tokens have the longest beginning in common with `prompt`; 0 when none has
  /// at least kMinShared.
  RequestId find(std::span<const std::int32_t> prompt, std::string_view salt);
  /// Remembers a finished request. Returns the ids it makes superfluous, for Engine::release: those
  /// whose tokens are all at its beginning, and those beyond `max_entries`, oldest use first.
  std::vector<RequestId> add(RequestId id, std::vector<std::int32_t> tokens, std::string salt);

  std::size_t size() const noexcept { return entries_.size(); }
  static constexpr std::size_t kMinShared = 8;  // tokens; a shorter beginning is not worth a copy

 private:
  struct Entry {
    RequestId id;
    std::vector<std::int32_t> tokens;  // prompt and first continuation
    std::string salt;
  };
  const std::size_t max_entries_;
  std::list<Entry> entries_;  // least recently used first
};

}  // namespace larder
