#include "engine/kept_caches.h"

#include <algorithm>
#include <utility>

namespace larder {

void KeptCaches::keep(RequestId id, KeptCache kept) {
  kept.tokens.resize(kept.cache.n_rows());  // the last token drawn has no row
  kept_.push_back({id, std::move(kept)});
}

void KeptCaches::release(RequestId id) {
  if (const auto it = find(id); it != kept_.end()) kept_.erase(it);
}

KeptCache* KeptCaches::get(RequestId id) {
  const auto it = find(id);
  return it != kept_.end() ? &it->of : nullptr;
}

bool KeptCaches::release_oldest() {
  if (kept_.empty()) return false;
  kept_.pop_front();
  return true;
}

std::optional<KeptRows> KeptCaches::fork(RequestId id, const RowsWanted& wanted) {
  const auto it = find(id);
  if (it == kept_.end()) return std::nullopt;
  kept_.splice(kept_.end(), kept_, it);
  const KeptCache& kept = it->of;
  const bool has_dropped = kept.cache.has_dropped();
  if (has_dropped && kept.policy.get() != &wanted.policy) return std::nullopt;
  const auto& prompt = wanted.prompt;
  const auto differ =
      std::mismatch(prompt.begin(), prompt.end() - 1, kept.tokens.begin(), kept.tokens.end());
  auto n_common = static_cast<std::uint32_t>(differ.first - prompt.begin());
  // Rows between the two would be of different forms.
  if (kept.n_plain != wanted.n_plain) {
    n_common = std::min({n_common, kept.n_plain, wanted.n_plain});
  }
  if (!has_dropped) n_common = std::min(n_common, wanted.evictions.n_shareable());
  n_common = kept.cache.resumable_rows(n_common);
  if (n_common == 0 || !kept.cache.can_truncate(n_common)) return std::nullopt;
  if (!has_dropped) {
    return KeptRows{
        kept.cache.fork_as(n_common, wanted.policy.rows.shape, wanted.policy.rows.max_rows),
        wanted.evictions,
        {}};
  }
  // What later rows have added to the statistics cannot be taken back.
  if (kept.evictions.next_observed(n_common) < kept.cache.n_rows()) return std::nullopt;
  return KeptRows{kept.cache.fork(n_common), kept.evictions, kept.statistics};
}

std::list<KeptCaches::Kept>::iterator KeptCaches::find(RequestId id) {
  return std::find_if(kept_.begin(), kept_.end(), [id](const Kept& k) { return k.id == id; });
}

}  // namespace larder
