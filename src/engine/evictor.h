// Drops rows of a sequence's cache as a policy says.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/cache_statistics.h"
#include "engine/eviction_options.h"
#include "engine/eviction_points.h"
#include "kernels/column_sums.h"
#include "kernels/compute.h"
#include "kernels/expected_attention.h"
#include "kernels/kv_layout.h"
#include "kv/sequence_cache.h"
#include "larder/result.h"
#include "policy/hybrid_patterns.h"
#include "policy/row_lots.h"
#include "policy/select_rows.h"

namespace larder {

/// What queries add to the rows they see, where attention counts.
CreditRule credit_rule(const Policy& policy) noexcept;

/// Facts of a model.
struct EvictorModel {
  std::uint32_t n_heads, n_kv_heads, head_dim;
  float attention_scale;
  RopeTable rope;                           // of the layers without a window
  std::vector<TokenKind> token_kinds = {};  // [n_vocab], where a policy looks at them
  std::uint32_t value_dim = 0;  // of cached rows, where it is not head_dim (latent attention)
};

/// Ids and numbers meet here: scores of the rows of a layer, the rows that stay, their moves. Not
/// thread-safe; memory is kept from call to call.
class Evictor {
 public:
  /// Borrows the shape and what computes. `layouts` [n_layers], with the pool's address.
  Evictor(const EvictionOptions& options, const CacheShape& shape, const Compute& compute,
          std::vector<KvLayout> layouts, EvictorModel model);

  EvictionPoints points(std::uint32_t n_prompt) const noexcept;

  /// What `evict` wants to know of the queries that there were.
  CacheStatistics::Wants wants() const noexcept;

  /// The layers that drop rows are left with `n_keep` on average. `statistics` are the sequence's,
  /// if wanted. `tokens`: of its text, for policies that look at them. Errors: corrupt (keys that
  /// are no numbers). REQUIRES: `reserve` knew of it.
  Result<void> evict(SequenceCache& cache, std::uint32_t n_keep, CacheStatistics& statistics,
                     std::span<const TokenId> tokens = {});

 private:
  std::uint32_t n_layers() const noexcept {  // of the model
    return static_cast<std::uint32_t>(layouts_.size());
  }
  bool drops(std::uint32_t layer) const {
    const CacheLayer& first = shape_.layers[layer * n_parts()];
    return first.drops() && first.n_kv_heads > 0;
  }
  /// Layers of the shape that a layer of the model is.
  std::uint32_t n_parts() const noexcept { return shape_.heads_apart ? model_.n_kv_heads : 1; }
  /// Layers that repack keep whole blocks.
  std::uint32_t in_blocks(std::uint32_t index, std::uint32_t n_rows) const {
    const std::uint32_t n = block_.block_tokens;
    return shape_.layers[index].repacks ? (n_rows + n - 1) / n * n : n_rows;
  }
  struct Part {                       // of a layer of the model: all its KV heads, or one
    std::uint32_t layer, first_head;  // of the model
    std::uint32_t index, n_heads;     // of the shape
    std::uint32_t n_rows;             // stored
    std::span<float> scores;          // [n_heads, n_rows]
  };
  Result<void> evict_layer(SequenceCache& cache, std::uint32_t layer, std::uint32_t n_keep,
                           CacheStatistics& statistics);
  void set_parts(const SequenceCache& cache, std::uint32_t layer);
  void score(const SequenceCache& cache, const Part& part, CacheStatistics& statistics);
  void score_by_attention(const Part& part, CacheStatistics& statistics);
  ProtectedRows protected_rows(std::uint32_t n_keep) const noexcept;
  void set_counts(std::uint32_t n_keep);
  void set_counts_by_file(std::uint32_t n_keep);
  void set_kinds(std::span<const TokenId> tokens);
  void fit_patterns(std::uint32_t n_keep, CacheStatistics& statistics);
  void drop(SequenceCache& cache, const Part& part, std::uint32_t n_keep, ProtectedRows protect,
            CacheStatistics& statistics);
  struct Merge {                   // of one head
    std::vector<float> own, sums;  // [n_keep], [n_keep, head_dim]
    std::vector<float> key_sums;   // where keys are merged too: [n_keep, head_dim]
  };
  struct Keeping {
    std::uint32_t n_keep, n_tokens;  // rows of each head that stay; tokens of the text
    ProtectedRows protect;
  };
  KeyRows rows_of(const SequenceCache& cache, const Part& part);
  void make_moves(const Part& part, std::span<const BlockId> open);
  void collect_merges(const KeyRows& rows, const Part& part, const Keeping& keeping);
  void collect_runs(const KeyRows& rows, const Part& part, std::uint32_t head,
                    const Keeping& keeping, Merge& merge);
  void collect_merge(const KeyRows& rows, const Part& part, std::uint32_t head, const Lot& lot,
                     Merge& merge);
  bool has_head_file() const noexcept { return options_.policy.head_file != HeadFile::none; }
  bool fits_patterns() const noexcept { return options_.policy.fits_patterns; }

  const EvictionOptions options_;
  const CacheShape& shape_;
  const Compute& compute_;
  const std::vector<KvLayout> layouts_;
  const EvictorModel model_;
  const BlockShape block_;
  const KvShape parts_of_block_;
  std::uint32_t n_dropping_ = 0;        // layers of the model that drop rows
  std::optional<MeanRotation> future_;  // of the queries to come
  std::vector<Part> parts_;             // of the layer at hand
  std::vector<std::uint32_t> counts_;   // rows of each that stay
  std::vector<TokenKind> kinds_;        // of the rows, where patterns are fitted
  std::vector<KvRows> heads_;
  std::vector<float> pooled_;                // [n_rows]
  std::vector<float> scores_;                // [n_kv_heads, n_rows]
  std::vector<std::uint32_t> order_;         // [n_rows]
  std::vector<std::uint32_t> kept_;          // [n_kv_heads, n_keep]
  std::vector<std::vector<RowMove>> moves_;  // [n_kv_heads]
  std::vector<Merge> merges_;                // [n_kv_heads], where values are merged
};

}  // namespace larder
