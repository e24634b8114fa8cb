#include "server/kept_index.h"

#include <algorithm>
#include <utility>

namespace larder {
namespace {

std::size_t n_common(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first -
                                  a.begin());
}

}  // namespace

RequestId KeptIndex::find(std::span<const std::int32_t> prompt, std::string_view salt) {
  auto best = entries_.end();
  std::size_t n_best = kMinShared - 1;
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (it->salt != salt) continue;
    const std::size_t n = n_common(it->tokens, prompt);
    if (n > n_best) {
      best = it;
      n_best = n;
    }
  }
  if (best == entries_.end()) return 0;
  entries_.splice(entries_.end(), entries_, best);
  return best->id;
}

std::vector<RequestId> KeptIndex::add(RequestId id, std::vector<std::int32_t> tokens,
                                      std::string salt) {
  std::vector<RequestId> superfluous;
  for (auto it = entries_.begin(); it != entries_.end();) {
    const bool covered = it->salt == salt && it->tokens.size() <= tokens.size() &&
                         n_common(it->tokens, tokens) == it->tokens.size();
    if (covered) superfluous.push_back(it->id);
    it = covered ? entries_.erase(it) : std::next(it);
  }
  entries_.push_back({id, std::move(tokens), std::move(salt)});
  while (entries_.size() > max_entries_) {
    superfluous.push_back(entries_.front().id);
    entries_.pop_front();
  }
  return superfluous;
}

}  // namespace larder
