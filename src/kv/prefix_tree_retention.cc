// What the prefix tree keeps and what it lets go of.
#include <algorithm>

#include "base/check.h"
#include "kv/prefix_tree.h"

namespace larder {
namespace {

// Beginnings of stripes that are remembered to explain misses, one for each token: the prompt that
// looks for them may end anywhere. Some 80 bytes each.
constexpr std::size_t kMaxGone = 131072;

}  // namespace

bool PrefixTree::is_idle(const Node& node) const {
  return std::all_of(node.blocks.begin(), node.blocks.end(),
                     [this](BlockId id) { return id == kNoBlock || pool_->ref_count(id) == 1; });
}

bool PrefixTree::evict(const PrefixMoment& now) {
  if (leaves_.empty()) return false;
  auto victim = std::find_if(leaves_.begin(), leaves_.end(),
                             [this](const auto& leaf) { return is_idle(nodes_[leaf.second]); });
  if (victim == leaves_.end()) victim = leaves_.begin();
  age_ = std::max(age_, victim->first);
  ++n_evicted_;
  remove(victim->second, PrefixEnd::evicted, now);
  return true;
}

/// Only ends of the tree may go: those behind them need them.
void PrefixTree::rank(NodeId id) {
  unrank(id);
  Node& node = nodes_[id];
  node.worth = stripe_worth(node.facts, age_);
  if (node.depth > 0 && node.children.empty() && node.n_pins == 0) leaves_.insert({node.worth, id});
}

void PrefixTree::unrank(NodeId id) { leaves_.erase({nodes_[id].worth, id}); }

void PrefixTree::remember(const Node& node, PrefixEnd cause, const PrefixMoment& now) {
  const std::span<const TokenId> tokens = node.tokens;
  for (std::size_t n = 1; n <= tokens.size(); ++n) {
    const std::uint64_t name =
        short_name(stripe_digest(nodes_[node.parent].digest, tokens.first(n),
                                 std::min(node.n_plain, static_cast<std::uint32_t>(n))));
    if (gone_.insert_or_assign(name, Gone{cause, now}).second) gone_order_.push_back(name);
    if (gone_order_.size() <= kMaxGone) continue;
    gone_.erase(gone_order_.front());
    gone_order_.pop_front();
  }
}

void PrefixTree::remove(NodeId id, PrefixEnd cause, const PrefixMoment& now) {
  unrank(id);
  Node& node = nodes_[id];
  LARDER_CHECK(node.depth > 0 && node.children.empty() && node.n_pins == 0);
  if (cause != PrefixEnd::unseen) remember(node, cause, now);
  for (const BlockId block : node.blocks) {
    if (block != kNoBlock) pool_->release(block);
  }
  const NodeId parent = node.parent;
  node = Node{};
  free_.push_back(id);
  --n_stripes_;
  std::erase(nodes_[parent].children, id);
  if (nodes_[parent].depth == 0 && nodes_[parent].children.empty()) {
    roots_.erase(nodes_[parent].salt);
    nodes_[parent] = Node{};
    free_.push_back(parent);
    return;
  }
  // A parent left behind is as old as its last use; it keeps its worth, not a fresh one.
  Node& left = nodes_[parent];
  if (left.depth > 0 && left.children.empty() && left.n_pins == 0) {
    leaves_.insert({left.worth, parent});
  }
}

template <class F>
std::uint32_t PrefixTree::for_path(const PrefixKey& key, std::uint32_t n_rows, F&& f) {
  const std::uint32_t n = shape_->block_tokens;
  NodeId node = root_of(key.salt);
  std::uint32_t rows = 0;
  while (node != kNoNode && rows + n <= n_rows) {
    node = whole_child(node, key, rows);
    if (node == kNoNode) break;
    f(node);
    rows += n;
  }
  return rows;
}

std::uint32_t PrefixTree::pin(const PrefixKey& key, std::uint32_t n_rows) {
  return for_path(key, n_rows, [this](NodeId id) {
    unrank(id);
    ++nodes_[id].n_pins;
  });
}

std::uint32_t PrefixTree::unpin(const PrefixKey& key, std::uint32_t n_rows) {
  return for_path(key, n_rows, [this](NodeId id) {
    if (nodes_[id].n_pins > 0) --nodes_[id].n_pins;
    rank(id);
  });
}

bool PrefixTree::drop_pins() {
  bool any = false;
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    if (nodes_[id].n_pins == 0) continue;
    nodes_[id].n_pins = 0;
    rank(id);
    any = true;
  }
  return any;
}

std::size_t PrefixTree::drop(const PrefixKey& key, const PrefixMoment& now) {
  std::vector<NodeId> path;
  const std::uint32_t n_rows = for_path(key, static_cast<std::uint32_t>(key.tokens.size()),
                                        [&path](NodeId id) { path.push_back(id); });
  const std::size_t n_before = n_stripes_;
  const NodeId top = path.empty() ? root_of(key.salt) : path.back();
  if (top == kNoNode) return 0;
  const auto rest = key.tokens.subspan(n_rows);
  std::vector<NodeId> below = path;  // the path's own go last, from its end
  for (const NodeId id : nodes_[top].children) {
    // What stands beside the key's last tokens is another text, though it begins alike.
    const auto differ =
        std::mismatch(rest.begin(), rest.end(), nodes_[id].tokens.begin(), nodes_[id].tokens.end());
    const bool begins_alike =
        differ.first == rest.end() || differ.second == nodes_[id].tokens.end();
    if (begins_alike) below.push_back(id);
  }
  for (std::size_t i = path.size(); i < below.size(); ++i) {
    const auto& children = nodes_[below[i]].children;
    below.insert(below.end(), children.begin(), children.end());
  }
  for (std::size_t i = below.size(); i-- > 0;) {
    const Node& node = nodes_[below[i]];
    const bool removable = node.depth > 0 && node.children.empty() && node.n_pins == 0;
    if (removable) remove(below[i], PrefixEnd::dropped, now);
  }
  n_dropped_ += n_before - n_stripes_;
  return n_before - n_stripes_;
}

std::size_t PrefixTree::pinned_bytes() const {
  std::size_t bytes = 0;
  for (const Node& node : nodes_) {
    if (node.n_pins == 0) continue;
    for (const BlockId id : node.blocks) {
      if (id != kNoBlock) bytes += pool_->block_bytes(pool_->block_class(id));
    }
  }
  return bytes;
}

PrefixSummary PrefixTree::summary() const {
  PrefixSummary all;
  all.n_stripes = n_stripes_;
  all.n_salts = roots_.size();
  all.n_evicted = n_evicted_;
  all.n_dropped = n_dropped_;
  all.n_deduplicated = n_deduplicated_;
  all.n_only.resize(pool_->n_classes());
  for (const Node& node : nodes_) {
    if (node.depth == 0) continue;
    all.n_pinned += node.n_pins > 0 ? 1 : 0;
    all.longest_rows = std::max(
        all.longest_rows, node.facts.first_row + static_cast<std::uint32_t>(node.tokens.size()));
    for (const BlockId id : node.blocks) {
      if (id == kNoBlock) continue;
      const BlockClass cls = pool_->block_class(id);
      const std::size_t bytes = pool_->block_bytes(cls);
      all.bytes += bytes;
      if (pool_->ref_count(id) > 1) continue;
      all.only_bytes += bytes;
      ++all.n_only[static_cast<std::size_t>(cls)];
    }
  }
  return all;
}

}  // namespace larder
