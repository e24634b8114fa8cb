#include "kv/prefix_tree.h"

#include <openssl/evp.h>

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

void append(std::vector<std::uint8_t>& bytes, const void* data, std::size_t n) {
  const auto* first = static_cast<const std::uint8_t*>(data);
  bytes.insert(bytes.end(), first, first + n);
}

StripeDigest digest_of(const std::vector<std::uint8_t>& bytes) {
  StripeDigest digest;
  unsigned n = 0;
  LARDER_CHECK(EVP_Digest(bytes.data(), bytes.size(), digest.data(), &n, EVP_sha256(), nullptr) ==
                   1 &&
               n == digest.size());
  return digest;
}

StripeDigest root_digest(const StripeDigest& fingerprint, std::string_view salt) {
  std::vector<std::uint8_t> bytes(fingerprint.begin(), fingerprint.end());
  append(bytes, salt.data(), salt.size());
  return digest_of(bytes);
}

StripeDigest stripe_digest(const StripeDigest& parent, std::span<const TokenId> tokens,
                           std::uint32_t n_plain) {
  std::vector<std::uint8_t> bytes(parent.begin(), parent.end());
  append(bytes, &n_plain, sizeof n_plain);
  append(bytes, tokens.data(), tokens.size_bytes());
  return digest_of(bytes);
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
  if (best != kNoNode && n_best < nodes_[best].tokens.size()) {
    walk.match.cached_token = nodes_[best].tokens[n_best];
  }
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
  const std::uint32_t n = shape_->block_tokens;
  const std::uint32_t begin = walk.n_rows / n * n;
  const auto wanted =
      key.tokens.subspan(begin, std::min<std::size_t>(n, key.tokens.size() - begin));
  const auto it = gone_.find(short_name(
      stripe_digest(nodes_[walk.node].digest, wanted,
                    plain_among(key.n_plain, begin, static_cast<std::uint32_t>(wanted.size())))));
  if (it != gone_.end()) {
    match.end = it->second;
  } else if (walk.n_rows > begin) {
    match.end = PrefixEnd::differs;
  } else if (!nodes_[walk.node].children.empty()) {
    match.end = PrefixEnd::differs;
    match.cached_token = nodes_[nodes_[walk.node].children.front()].tokens.front();
  }
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
