// Caches of finished requests that the caller wants to continue from.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/cache_statistics.h"
#include "engine/eviction_points.h"
#include "engine/sequence_policy.h"
#include "kv/sequence_cache.h"
#include "larder/engine.h"

namespace larder {

/// What a finished request leaves.
struct KeptCache {
  std::shared_ptr<SequencePolicy> policy;  // to whose shape the cache refers
  std::vector<TokenId> tokens;             // those whose rows are cached, perhaps one more
  SequenceCache cache;
  std::uint32_t n_plain;  // its first rows, of the plain form: model/latent_forms.h
  EvictionPoints evictions;
  CacheStatistics statistics;
};

/// What a request goes on from.
struct KeptRows {
  SequenceCache cache;
  EvictionPoints evictions;    // the request's own; of a cache that dropped rows, that cache's,
  CacheStatistics statistics;  // with these; else empty
};

/// A request that may go on from rows of others.
struct RowsWanted {
  std::span<const TokenId> prompt;
  std::uint32_t n_plain;  // its first rows of the plain form
  const EvictionPoints& evictions;
  const SequencePolicy& policy;
};

/// Holds references to blocks like any sequence; gives the oldest up when blocks run short.
class KeptCaches {
 public:
  void keep(RequestId id, KeptCache kept);
  void release(RequestId id);
  /// Null when it is gone. Whoever lengthens the cache sets the tokens and the form of its rows
  /// too.
  KeptCache* get(RequestId id);
  /// Drops the one least recently kept or used. False when there is none.
  bool release_oldest();

  /// A cache over the longest common prefix of the prompt and the kept tokens, one token short of
  /// the prompt at least (its logits are wanted), as far as the rows have the form that the request
  /// gives them. Empty when nothing is shared or the kept one is gone. A cache that dropped rows is
  /// shared with requests under the same policy, up to any place behind the last one where it did,
  /// if no row that counts in its statistics comes after; of one that did not, anybody shares the
  /// rows that his own policy lets him.
  std::optional<KeptRows> fork(RequestId id, const RowsWanted& wanted);

 private:
  struct Kept {
    RequestId id;
    KeptCache of;
  };
  std::list<Kept>::iterator find(RequestId id);
  std::list<Kept> kept_;  // least recently used first
};

}  // namespace larder
