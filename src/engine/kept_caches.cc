#include "engine/kept_caches.h"

#include <algorithm>
#include <utility>

namespace larder {

void KeptCaches::keep(RequestId id, std::vector<TokenId> tokens, SequenceCache cache) {
  tokens.resize(cache.n_rows());  // the last token drawn has no row
  kept_.push_back({id, std::move(tokens), std::move(cache)});
}

void KeptCaches::release(RequestId id) {
  if (const auto it = find(id); it != kept_.end()) kept_.erase(it);
}

bool KeptCaches::release_oldest() {
  if (kept_.empty()) return false;
  kept_.pop_front();
  return true;
}

std::optional<SequenceCache> KeptCaches::fork(RequestId id, std::span<const TokenId> prompt) {
  const auto it = find(id);
  if (it == kept_.end()) return std::nullopt;
  kept_.splice(kept_.end(), kept_, it);
  const auto differ =
      std::mismatch(prompt.begin(), prompt.end() - 1, it->tokens.begin(), it->tokens.end());
  const auto n_common = static_cast<std::uint32_t>(differ.first - prompt.begin());
  if (n_common == 0 || !it->cache.can_truncate(n_common)) return std::nullopt;
  return it->cache.fork(n_common);
}

std::list<KeptCaches::Kept>::iterator KeptCaches::find(RequestId id) {
  return std::find_if(kept_.begin(), kept_.end(), [id](const Kept& k) { return k.id == id; });
}

}  // namespace larder
