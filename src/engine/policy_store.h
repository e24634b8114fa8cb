// The policies that sequences run under, made once each.
#pragma once

#include <cstddef>
#include <list>
#include <memory>

#include "engine/sequence_policy.h"
#include "policy/policy.h"

namespace larder {

/// What tells policies apart, with files of heads being the engine's own.
struct PolicyKey {
  Policy policy;
  KeepBudget budget;
  bool operator==(const PolicyKey&) const = default;
};

/// Remembers those that requests named last: all that are in use, and of the others as many as
/// leave kMost. Not thread-safe.
class PolicyStore {
 public:
  static constexpr std::size_t kMost = 16;

  /// Null: it is to be made.
  std::shared_ptr<SequencePolicy> find(const PolicyKey& key);
  void add(const PolicyKey& key, std::shared_ptr<SequencePolicy> policy);
  std::size_t size() const noexcept { return known_.size(); }

 private:
  struct Known {
    PolicyKey key;
    std::shared_ptr<SequencePolicy> policy;  // owners: this, requests and kept caches
  };
  std::list<Known> known_;  // least recently used first
};

}  // namespace larder
