// Which beginnings of texts are cached, shared by all who begin alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/block_id.h"
#include "kv/block_pool.h"
#include "kv/prefix_worth.h"
#include "kv/sequence_cache.h"
#include "kv/stripe_digest.h"

namespace larder {

/// What decides about sharing: the tokens, and what else the bits of their rows depend on.
struct PrefixKey {
  std::span<const TokenId> tokens;
  std::uint32_t n_plain = 0;   // its first rows have the plain form of latent attention
  std::string_view salt = {};  // keys with different salts share nothing
};

/// Why a match ends where it does.
enum class PrefixEnd : std::uint8_t {
  covered,   // all that was asked for is cached
  new_salt,  // nothing is cached under this salt, and of the text nothing ever was
  unseen,    // nothing was ever cached behind this place
  differs,   // what is cached behind this place has another token, or rows of another form
  evicted,   // the rest of the stripe was cached, and gave way to others
  dropped,   // the rest of the stripe was cached, and dropped by name
  window,    // rows are cached behind this place, but a sliding window let go of some before
  sealed,    // rows are cached behind this place, but encoded with others, as a whole block
};

/// When cached rows went, and for whom: the caller's own numbers, kept for whoever asks.
struct PrefixMoment {
  std::uint64_t step = 0;
  double seconds = 0;
  std::uint64_t request = 0;  // 0: nobody's
};

struct PrefixMatch {
  std::uint32_t n_rows = 0;           // that can be shared
  std::vector<std::uint32_t> nodes;   // their stripes, in order; the last perhaps in part
  PrefixEnd end = PrefixEnd::unseen;  // why there are no more
  TokenId cached_token = -1;          // with `differs`: what stands there in the text used most
  PrefixMoment gone = {};             // with `evicted` and `dropped`
};

struct PrefixSummary {
  std::size_t n_stripes = 0, n_pinned = 0, n_salts = 0;
  std::size_t bytes = 0;       // of all blocks that the tree refers to
  std::size_t only_bytes = 0;  // of those that nobody else refers to, and how many these are
  std::vector<std::size_t> n_only = {};  // by class: [n_classes]
  std::uint64_t n_evicted = 0, n_dropped = 0, n_deduplicated = 0;
  std::uint32_t longest_rows = 0;
};

/// A tree whose nodes are stripes: the blocks of all layers and heads for block_tokens tokens, each
/// behind those before it. Holds references to blocks like any sequence; evicting is letting go.
/// What it says to be cached is compared token by token, never by a hash alone. A node behind whose
/// stripe nothing follows may hold fewer tokens (the end of a finished text); its open block is
/// shared by copy, and so are the first rows of any stripe, unless a layer seals: rows of a sealed
/// block are shared all together. Ids only; not thread-safe.
class PrefixTree {
 public:
  /// `shape` and `pool` must outlive it.
  PrefixTree(const CacheShape& shape, BlockPool& pool, const StripeDigest& fingerprint);
  ~PrefixTree();
  PrefixTree(const PrefixTree&) = delete;
  PrefixTree& operator=(const PrefixTree&) = delete;

  /// The longest beginning of the key, of at most `max_rows` rows, from which a sequence may go on:
  /// every row that its next query sees is there.
  PrefixMatch find(const PrefixKey& key, std::uint32_t max_rows) const;
  /// Gives `cache` the rows of the match behind its own; counts a use. REQUIRES: the cache holds
  /// the first rows of the same key, whole blocks of them, fewer than the match, none reserved.
  void share(const PrefixMatch& match, SequenceCache& cache);
  /// Makes the whole blocks of `cache` known, with `tail` also the rest. Where a stripe is known
  /// already, the cache lets go of its own copy and shares (the same key gives the same bits).
  /// REQUIRES: the cache holds rows of the key's tokens, none reserved.
  void publish(const PrefixKey& key, SequenceCache& cache, bool tail);

  /// Lets go of the stripe that is worth least, of those that nobody runs on if there are any.
  /// False when none may go.
  bool evict(const PrefixMoment& now = {});
  /// Stripes of the first `n_rows` rows stay until unpinned as often; returns the rows pinned.
  std::uint32_t pin(const PrefixKey& key, std::uint32_t n_rows);
  std::uint32_t unpin(const PrefixKey& key, std::uint32_t n_rows);
  /// All of them, for when memory would not do otherwise. False when there were none.
  bool drop_pins();
  /// Forgets everything behind the key's tokens (all of the salt where there are none), and their
  /// own stripes as far as nothing else follows them; pinned ones stay. Returns the stripes
  /// forgotten.
  std::size_t drop(const PrefixKey& key, const PrefixMoment& now = {});

  std::uint64_t version() const noexcept { return version_; }  // grows with every new stripe
  std::size_t n_stripes() const noexcept { return n_stripes_; }
  std::size_t pinned_bytes() const;
  PrefixSummary summary() const;

 private:
  using NodeId = std::uint32_t;
  static constexpr NodeId kNoNode = UINT32_MAX;
  struct Node {
    NodeId parent = kNoNode;
    std::uint32_t depth = 0;      // stripes up to and with this one; 0: a root
    std::uint32_t n_plain = 0;    // of its rows
    std::vector<TokenId> tokens;  // at most block_tokens
    std::vector<BlockId> blocks;  // [n_tables]; kNoBlock where a window let go
    bool whole = false;           // none of them is missing
    std::vector<NodeId> children;
    StripeDigest digest{};
    StripeFacts facts;
    double worth = 0;  // as in `leaves_`
    std::uint32_t n_pins = 0;
    std::string salt;  // of a root
  };
  struct Walk;  // of a key down the tree

  static std::uint64_t short_name(const StripeDigest& digest);
  NodeId new_node();
  NodeId root_of(std::string_view salt) const;
  NodeId make_root(std::string_view salt);
  NodeId whole_child(NodeId parent, const PrefixKey& key, std::uint32_t begin) const;
  void match_part(Walk& walk, const PrefixKey& key, std::uint32_t max_rows) const;
  void explain_end(Walk& walk, const PrefixKey& key, std::uint32_t max_rows) const;
  void explain_by_others(Walk& walk, const PrefixKey& key) const;
  bool was_cached(const StripeDigest& parent, const PrefixKey& key, std::uint32_t begin,
                  std::uint32_t max_rows, PrefixMatch& match) const;
  bool sees_all(std::uint32_t n_rows, std::uint32_t n_whole_stripes) const;
  NodeId add(NodeId parent, const PrefixKey& key, std::uint32_t begin, std::uint32_t n,
             const SequenceCache& cache);
  void unite(NodeId id, std::uint32_t run, SequenceCache& cache);
  void drop_covered_tails(NodeId parent, const PrefixKey& key, std::uint32_t begin,
                          std::uint32_t n);
  void remove(NodeId id, PrefixEnd cause, const PrefixMoment& now = {});
  void remember(const Node& node, PrefixEnd cause, const PrefixMoment& now);
  void rank(NodeId id);
  void unrank(NodeId id);
  bool is_idle(const Node& node) const;
  template <class F>
  std::uint32_t for_path(const PrefixKey& key, std::uint32_t n_rows, F&& f);

  const CacheShape* shape_;
  BlockPool* pool_;
  const StripeDigest fingerprint_;
  std::uint32_t n_tables_ = 0;
  bool seals_ = false;  // some layer does
  std::vector<Node> nodes_;
  std::vector<NodeId> free_;
  std::map<std::string, NodeId, std::less<>> roots_;
  std::set<std::pair<double, NodeId>> leaves_;  // those that may be evicted, least worth first
  double age_ = 0;                              // worth of the last one evicted
  std::size_t n_stripes_ = 0;
  std::uint64_t version_ = 0, n_evicted_ = 0, n_dropped_ = 0, n_deduplicated_ = 0;
  struct Gone {
    PrefixEnd cause;
    PrefixMoment when;
  };
  // By the first bytes of the digests of all beginnings of stripes that went.
  std::unordered_map<std::uint64_t, Gone> gone_;
  std::deque<std::uint64_t> gone_order_;
};

}  // namespace larder
