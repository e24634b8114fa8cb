#include "engine/compressed_prefixes.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace larder {

bool same_until(const EvictionPoints& theirs, const EvictionPoints& mine,
                std::uint32_t n_rows) noexcept {
  const bool same_end =
      theirs.prompt_end == mine.prompt_end || std::min(theirs.prompt_end, mine.prompt_end) > n_rows;
  return theirs.n_keep == mine.n_keep && theirs.every == mine.every && same_end;
}

void CompressedPrefixes::leave(KeptCache left, std::string salt) {
  LARDER_CHECK(left.cache.has_dropped() && left.tokens.size() >= left.cache.n_rows());
  left.tokens.resize(left.cache.n_rows());
  const auto is_same = [&](const Left& other) {
    return other.of.policy == left.policy && other.of.evictions.n_keep == left.evictions.n_keep &&
           other.of.n_plain == left.n_plain && other.salt == salt && other.of.tokens == left.tokens;
  };
  const auto known = std::find_if(left_.begin(), left_.end(), is_same);
  if (known != left_.end()) {
    left_.splice(left_.end(), left_, known);
    return;
  }
  statistics_bytes_ += left.statistics.n_bytes();
  left_.push_back({std::move(salt), std::move(left)});
  while (left_.size() > kMost || statistics_bytes_ > kMaxStatisticsBytes) release_front();
  ++version_;
}

void CompressedPrefixes::release_front() {
  statistics_bytes_ -= left_.front().of.statistics.n_bytes();
  left_.pop_front();
}

/// 0: it is of no use.
std::uint32_t CompressedPrefixes::n_rows_for(const Left& left, const RowsWanted& wanted) {
  const KeptCache& of = left.of;
  if (of.policy.get() != &wanted.policy) return 0;
  const auto differ = std::mismatch(wanted.prompt.begin(), wanted.prompt.end() - 1,
                                    of.tokens.begin(), of.tokens.end());
  auto n = static_cast<std::uint32_t>(differ.first - wanted.prompt.begin());
  // Rows between the two would be of different forms.
  if (of.n_plain != wanted.n_plain) n = std::min({n, of.n_plain, wanted.n_plain});
  n = of.cache.resumable_rows(n);
  if (n == 0 || !of.cache.can_truncate(n)) return 0;
  // What later rows have added to the statistics cannot be taken back.
  if (!of.statistics.empty() && n < of.cache.n_rows()) return 0;
  return same_until(of.evictions, wanted.evictions, n) ? n : 0;
}

std::optional<KeptRows> CompressedPrefixes::find(const RowsWanted& wanted, std::string_view salt) {
  auto best = left_.end();
  std::uint32_t n_best = 0;
  for (auto it = left_.begin(); it != left_.end(); ++it) {
    const std::uint32_t n = it->salt == salt ? n_rows_for(*it, wanted) : 0;
    if (n <= n_best) continue;
    best = it;
    n_best = n;
  }
  if (best == left_.end()) return std::nullopt;
  left_.splice(left_.end(), left_, best);
  return KeptRows{best->of.cache.fork(n_best), wanted.evictions, best->of.statistics};
}

std::size_t CompressedPrefixes::drop(std::span<const TokenId> tokens, std::string_view salt) {
  return std::erase_if(left_, [&](const Left& left) {
    const auto& theirs = left.of.tokens;
    const bool goes = left.salt == salt && theirs.size() >= tokens.size() &&
                      std::equal(tokens.begin(), tokens.end(), theirs.begin());
    if (goes) statistics_bytes_ -= left.of.statistics.n_bytes();
    return goes;
  });
}

bool CompressedPrefixes::release_oldest() {
  if (left_.empty()) return false;
  release_front();
  return true;
}

void CompressedPrefixes::count_only(const BlockPool& pool, std::span<std::size_t> n_only) const {
  const auto count = [&](BlockId id) {
    if (pool.ref_count(id) == 1) ++n_only[static_cast<std::size_t>(pool.block_class(id))];
  };
  for (const Left& left : left_) {
    const auto& layers = left.of.policy->rows.shape.layers;
    for (std::uint32_t l = 0; l < layers.size(); ++l) {
      for (std::uint32_t h = 0; h < layers[l].n_kv_heads; ++h) {
        for (const BlockId id : left.of.cache.table(l, h).blocks()) count(id);
        if (left.of.cache.has_open_block(l)) count(left.of.cache.open_block(l, h));
      }
    }
  }
}

}  // namespace larder
