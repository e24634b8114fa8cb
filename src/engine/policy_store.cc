#include "engine/policy_store.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace larder {

std::shared_ptr<SequencePolicy> PolicyStore::find(const PolicyKey& key) {
  const auto it = std::find_if(known_.begin(), known_.end(),
                               [&key](const Known& known) { return known.key == key; });
  if (it == known_.end()) return nullptr;
  known_.splice(known_.end(), known_, it);
  return it->policy;
}

void PolicyStore::add(const PolicyKey& key, std::shared_ptr<SequencePolicy> policy) {
  known_.push_back({key, std::move(policy)});
  for (auto it = known_.begin(); it != known_.end() && known_.size() > kMost;) {
    it = it->policy.use_count() == 1 ? known_.erase(it) : std::next(it);
  }
}

}  // namespace larder
