#include "kv/prefix_tree.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace larder {
namespace {

std::uint32_t n_common(std::span<const TokenId> a, std::span<const TokenId> b) {
  const auto differ = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<std::uint32_t>(differ.first - a.begin());
}

/// Plain rows among the `n` from `begin`, when the text's first `n_plain` rows are plain.
std::uint32_t plain_among(std::uint32_t n_plain, std::uint32_t begin, std::uint32_t n) {
  return std::min(n_plain - std::min(n_plain, begin), n);
}

}  // namespace

std::uint64_t PrefixTree::short_name(const StripeDigest& digest) {
  std::uint64_t name = 0;
  std::memcpy(&name, digest.data(), sizeof name);
  return name;
}

/// Where a key has led so far.
struct PrefixTree::Walk {
  PrefixMatch match;
  NodeId node;
  std::uint32_t n_rows = 0;           // matched, usable or not
  std::uint32_t n_whole_stripes = 0;  // in a row, up to here, of which no block is missing
  std::vector<NodeId> nodes;
};

PrefixTree::PrefixTree(const CacheShape& shape, BlockPool& pool, const StripeDigest& fingerprint)
    : shape_(&shape), pool_(&pool), fingerprint_(fingerprint) {
  for (const CacheLayer& layer : shape.layers) {
    n_tables_ += layer.n_kv_heads;
    seals_ |= layer.seals();
  }
}

PrefixTree::~PrefixTree() {
  for (const Node& node : nodes_) {
    for (const BlockId id : node.blocks) {
      if (id != kNoBlock) pool_->release(id);
    }
  }
}

PrefixTree::NodeId PrefixTree::root_of(std::string_view salt) const {
  const auto it = roots_.find(salt);
  return it == roots_.end() ? kNoNode : it->second;
}

PrefixTree::NodeId PrefixTree::whole_child(NodeId parent, const PrefixKey& key,
                                           std::uint32_t begin) const {
  const std::uint32_t n = shape_->block_tokens;
  if (key.tokens.size() < std::size_t{begin} + n) return kNoNode;
  const auto wanted = key.tokens.subspan(begin, n);
  const std::uint32_t n_plain = plain_among(key.n_plain, begin, n);
  for (const NodeId id : nodes_[parent].children) {
    const Node& child = nodes_[id];
    if (child.n_plain == n_plain && child.tokens.size() == n &&
        std::equal(wanted.begin(), wanted.end(), child.tokens.begin())) {
      return id;
    }
  }
  return kNoNode;
}

bool PrefixTree::sees_all(std::uint32_t n_rows, std::uint32_t n_whole_stripes) const {
  const std::uint32_t n_stripes = (n_rows + shape_->block_tokens - 1) / shape_->block_tokens;
  return SequenceCache::first_window_run(*shape_, n_rows) + n_whole_stripes >= n_stripes;
}

PrefixMatch PrefixTree::find(const PrefixKey& key, std::uint32_t max_rows) const {
  Walk walk;
  walk.node = root_of(key.salt);
  if (walk.node == kNoNode) {
    walk.match.end = PrefixEnd::new_salt;
    // The root goes with the last of its stripes.
    was_cached(root_digest(fingerprint_, key.salt), key, 0, max_rows, walk.match);
    return walk.match;
  }
  const std::uint32_t n = shape_->block_tokens;
  while (walk.n_rows + n <= max_rows) {
    const NodeId child = whole_child(walk.node, key, walk.n_rows);
    if (child == kNoNode) break;
    walk.node = child;
    walk.nodes.push_back(child);
    walk.n_rows += n;
    walk.n_whole_stripes = nodes_[child].whole ? walk.n_whole_stripes + 1 : 0;
    if (!sees_all(walk.n_rows, walk.n_whole_stripes)) continue;
    walk.match.n_rows = walk.n_rows;
  }
  walk.match.nodes.assign(walk.nodes.begin(), walk.nodes.begin() + walk.match.n_rows / n);
  match_part(walk, key, max_rows);
  return walk.match;
}

/// The first rows of a stripe whose later ones differ, or are not asked for.
void PrefixTree::match_part(Walk& walk, const PrefixKey& key, std::uint32_t max_rows) const {
  const std::uint32_t begin = walk.n_rows;
  const auto wanted = key.tokens.subspan(
      begin, std::min<std::size_t>(shape_->block_tokens, key.tokens.size() - begin));
  NodeId best = kNoNode;
  std::uint32_t n_best = 0, n_sealed = 0;
  for (const NodeId id : nodes_[walk.node].children) {
    const Node& child = nodes_[id];
    std::uint32_t n = std::min(n_common(wanted, child.tokens), max_rows - begin);
    const std::uint32_t n_plain = plain_among(key.n_plain, begin, n);
    const std::uint32_t n_plain_cached = std::min(child.n_plain, n);
    if (n_plain != n_plain_cached) n = std::min(n_plain, n_plain_cached);
    const std::uint32_t n_whole = child.whole ? walk.n_whole_stripes + 1 : 0;
    if (n <= n_best || !sees_all(begin + n, n_whole)) continue;
    if (seals_ && child.tokens.size() == shape_->block_tokens) {
      n_sealed = std::max(n_sealed, n);
      continue;
    }
    best = id;
    n_best = n;
  }
  if (best != kNoNode) {
    walk.match.n_rows = begin + n_best;
    walk.match.nodes = walk.nodes;
    walk.match.nodes.push_back(best);
  }
  walk.n_rows = begin + n_best;
  explain_end(walk, key, max_rows);
  if (n_sealed > n_best && walk.match.end != PrefixEnd::covered) {
    walk.match.end = PrefixEnd::sealed;
    walk.match.cached_token = -1;
  }
}

void PrefixTree::explain_end(Walk& walk, const PrefixKey& key, std::uint32_t max_rows) const {
  PrefixMatch& match = walk.match;
  if (match.n_rows == max_rows) {
    match.end = PrefixEnd::covered;
    return;
  }
  if (match.n_rows < walk.n_rows) {
    match.end = PrefixEnd::window;
    return;
  }
  const std::uint32_t begin = walk.n_rows / shape_->block_tokens * shape_->block_tokens;
  if (was_cached(nodes_[walk.node].digest, key, begin, max_rows, match)) return;
  explain_by_others(walk, key);
}

/// Sets why all that is asked for of the stripe at `begin` is there no more, if it ever was there.
bool PrefixTree::was_cached(const StripeDigest& parent, const PrefixKey& key, std::uint32_t begin,
                            std::uint32_t max_rows, PrefixMatch& match) const {
  const std::uint32_t n = std::min(shape_->block_tokens, max_rows - begin);
  if (n == 0) return false;
  const auto it = gone_.find(short_name(
      stripe_digest(parent, key.tokens.subspan(begin, n), plain_among(key.n_plain, begin, n))));
  if (it == gone_.end()) return false;
  match.end = it->second.cause;
  match.gone = it->second.when;
  return true;
}

/// What the text used most, of those that agree up to here, has in the place of the next row. Where
/// all of them end here, nothing was seen behind this place.
void PrefixTree::explain_by_others(Walk& walk, const PrefixKey& key) const {
  const std::uint32_t n = walk.n_rows % shape_->block_tokens;
  const std::uint32_t begin = walk.n_rows - n;
  const auto wanted = key.tokens.subspan(begin, n + 1);
  const std::uint32_t n_plain = plain_among(key.n_plain, begin, n + 1);
  const Node* other = nullptr;
  for (const NodeId id : nodes_[walk.node].children) {
    const Node& child = nodes_[id];
    if (child.tokens.size() <= n || n_common(wanted, child.tokens) < n) continue;
    if (child.tokens[n] == wanted[n] && std::min(child.n_plain, n + 1) == n_plain) {
      walk.match.end = PrefixEnd::window;  // it is there, but does not see all that it needs
      return;
    }
    if (other == nullptr || child.facts.n_uses > other->facts.n_uses) other = &child;
  }
  if (other == nullptr) return;
  walk.match.end = PrefixEnd::differs;
  walk.match.cached_token = other->tokens[n];
}

void PrefixTree::share(const PrefixMatch& match, SequenceCache& cache) {
  const std::uint32_t n = shape_->block_tokens;
  LARDER_CHECK(cache.n_rows() % n == 0 && cache.n_rows() < match.n_rows);
  for (std::size_t i = 0; i < match.nodes.size(); ++i) {
    Node& node = nodes_[match.nodes[i]];
    const auto begin = static_cast<std::uint32_t>(i) * n;
    if (begin < cache.n_rows()) continue;
    cache.append_stripe(node.blocks, std::min(n, match.n_rows - begin));
    ++node.facts.n_uses;
    rank(match.nodes[i]);
  }
}

void PrefixTree::publish(const PrefixKey& key, SequenceCache& cache, bool tail) {
  const std::uint32_t n = shape_->block_tokens;
  NodeId node = root_of(key.salt);
  if (node == kNoNode && (cache.n_rows() >= n || (tail && cache.n_rows() > 0))) {
    node = make_root(key.salt);
  }
  std::uint32_t begin = 0;
  for (; begin + n <= cache.n_rows(); begin += n) {
    const NodeId known = whole_child(node, key, begin);
    if (known != kNoNode) unite(known, begin / n, cache);
    node = known != kNoNode ? known : add(node, key, begin, n, cache);
  }
  const std::uint32_t n_left = cache.n_rows() - begin;
  if (!tail || n_left == 0) return;
  for (const NodeId id : nodes_[node].children) {
    const Node& child = nodes_[id];
    const std::uint32_t n_plain = plain_among(key.n_plain, begin, n_left);
    if (std::min(child.n_plain, n_left) == n_plain &&
        n_common(key.tokens.subspan(begin, n_left), child.tokens) == n_left) {
      return;  // another text goes on from here
    }
  }
  add(node, key, begin, n_left, cache);
}

/// The same rows in the tree and in the cache: one of the two is enough.
void PrefixTree::unite(NodeId id, std::uint32_t run, SequenceCache& cache) {
  Node& node = nodes_[id];
  n_deduplicated_ += cache.replace_stripe(run, node.blocks);
  if (node.whole) return;
  std::vector<BlockId> own(n_tables_);
  cache.stripe(run, own);
  node.whole = true;
  for (std::size_t i = 0; i < own.size(); ++i) {
    if (node.blocks[i] == kNoBlock && own[i] != kNoBlock) {
      pool_->share(own[i]);
      node.blocks[i] = own[i];
    }
    node.whole &= node.blocks[i] != kNoBlock;
  }
}

PrefixTree::NodeId PrefixTree::new_node() {
  if (free_.empty()) {
    nodes_.emplace_back();
    return static_cast<NodeId>(nodes_.size() - 1);
  }
  const NodeId id = free_.back();
  free_.pop_back();
  return id;
}

PrefixTree::NodeId PrefixTree::make_root(std::string_view salt) {
  const NodeId id = new_node();
  nodes_[id].salt = salt;
  nodes_[id].digest = root_digest(fingerprint_, salt);
  roots_.emplace(salt, id);
  return id;
}

PrefixTree::NodeId PrefixTree::add(NodeId parent, const PrefixKey& key, std::uint32_t begin,
                                   std::uint32_t n, const SequenceCache& cache) {
  const NodeId id = new_node();
  Node& node = nodes_[id];
  node.parent = parent;
  node.depth = nodes_[parent].depth + 1;
  node.n_plain = plain_among(key.n_plain, begin, n);
  const auto tokens = key.tokens.subspan(begin, n);
  node.tokens.assign(tokens.begin(), tokens.end());
  node.digest = stripe_digest(nodes_[parent].digest, tokens, node.n_plain);
  node.facts.first_row = begin;
  node.blocks.resize(n_tables_);
  cache.stripe(begin / shape_->block_tokens, node.blocks);
  node.whole = true;
  for (const BlockId block : node.blocks) {
    node.whole &= block != kNoBlock;
    if (block != kNoBlock) pool_->share(block);
  }
  unrank(parent);
  nodes_[parent].children.push_back(id);
  rank(id);
  ++n_stripes_;
  ++version_;
  drop_covered_tails(parent, key, begin, n);
  return id;
}

/// Ends of texts that the new stripe contains.
void PrefixTree::drop_covered_tails(NodeId parent, const PrefixKey& key, std::uint32_t begin,
                                    std::uint32_t n) {
  std::vector<NodeId> covered;
  for (const NodeId id : nodes_[parent].children) {
    const Node& child = nodes_[id];
    const auto n_tail = static_cast<std::uint32_t>(child.tokens.size());
    if (n_tail < n && child.n_pins == 0 &&
        child.n_plain == plain_among(key.n_plain, begin, n_tail) &&
        n_common(child.tokens, key.tokens.subspan(begin, n)) == n_tail) {
      covered.push_back(id);
    }
  }
  for (const NodeId id : covered) remove(id, PrefixEnd::unseen);
}

}  // namespace larder
