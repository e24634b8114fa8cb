// Queries that read only some of the cached blocks: those whose keys may give the most.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "kernels/compute.h"
#include "tensor/buffer.h"

namespace larder {

/// Which blocks a query reads in each KV head: its own, and so many others.
struct BlockRule {
  std::uint32_t n_blocks = 0;  // its own included; 0: `share` counts
  double share = 0;            // of the blocks that are cached
  std::uint32_t n_least = 1;   // but so many at least
  std::uint32_t n_first = 0;   // the first ones, which are always read,
  std::uint32_t n_local = 0;   // and those before its own; both and two more are `n_least` at most
  BlockMarks marks = BlockMarks::bounds;  // by which the others are chosen
  std::uint32_t n_representatives = 4;    // of samples (kernels/key_samples.h)

  bool reads_all() const noexcept { return n_blocks == 0 && share == 0; }
  /// Of the `n_before` blocks before its own.
  std::uint32_t n_chosen(std::uint32_t n_before) const noexcept;
};

/// The places of the out.size() greatest scores, ascending; of equal ones those in front. NaN
/// stands at one end, by its sign. `work` [scores.size()] is overwritten.
/// REQUIRES: 0 < out.size() <= scores.size()
void select_greatest(std::span<const float> scores, std::span<std::uint32_t> work,
                     std::span<std::uint32_t> out);

/// Attention in which queries choose the blocks they read, for each KV head: by bounds, those which
/// allow any query of the group of heads the most; by samples, those whose representative keys
/// together get the most from all of them. The others are not touched. To `attend` such a query is
/// a sequence of its own, which has the chosen blocks in their order, and its own block, and no
/// others: with all blocks chosen the result has the bits of `attend`. What is chosen depends on
/// the query and the rows before it alone.
/// The first queries of an item need not choose each for itself. By bounds, these read everything.
/// By samples, those that stand in the same block choose together: what the sample of the block
/// before would choose.
/// One step at a time uses it; allocates at construction only.
class BlockChoice {
 public:
  struct Limits {
    unsigned n_threads;
    std::uint32_t max_rows, max_sequences;  // of a step
    std::uint32_t max_context;              // rows that a query sees
    /// For lists of chosen blocks: those of all decoding sequences, and of some rows of one that is
    /// computed anew. When it runs out, `attend` is called more often: slower, the same bits.
    std::size_t list_bytes = std::size_t{8} << 20;
  };
  /// What `attend` takes, and which queries choose.
  struct Call {
    const AttentionShape& shape;  // without a window
    const KvLayout& layout;       // with the marks of the rule
    std::span<const AttentionItem> items;
    std::span<const std::uint32_t> n_full;  // [items.size()] first queries, as said above
    const float* q;
    float* out;
    AttentionScratch& scratch;
  };

  BlockChoice() = default;
  BlockChoice(const AttentionShape& shape, const BlockRule& rule, const Limits& limits);

  /// As `attend`. REQUIRES: the rows of the step are appended, no head holds fewer rows than
  /// another
  void attend_chosen(const Compute& compute, const Call& call);

  /// What `attend` gets of it: an item for each query that chooses, or some that choose together,
  /// from the one with number `first` among them on, as many as memory for their lists is there;
  /// before them, with `first` 0, items of the queries that read everything. Valid until the next
  /// call.
  std::span<const AttentionItem> choose(const Compute& compute, const Call& call,
                                        std::size_t first);

  /// Bytes at most, whatever the size of blocks.
  static std::size_t scratch_bytes(const AttentionShape& shape, const Limits& limits) noexcept;

 private:
  struct Query {
    std::uint32_t item, row;  // within the item
    std::uint32_t n_rows;     // that choose together
    bool by_sample;           // of the block before theirs
  };
  struct Work {               // of one thread
    float* split;             // [group, 2, head_dim]: queries as the marks meet them
    float* scores;            // [max_blocks]
    std::uint32_t* order;     // [max_blocks]
    const std::byte** marks;  // [max_blocks]
  };
  void list_queries(const Call& call);
  AttentionItem item_of(const Call& call, const Query& query) const;
  void choose_in_head(const Compute& compute, const Call& call, const Query& query,
                      std::uint32_t kv_head, unsigned thread, std::size_t slot);
  void best_blocks(const Compute& compute, const Call& call, const Query& query,
                   std::uint32_t kv_head, const Work& work, std::span<std::uint32_t> out) const;
  void set_queries(const Call& call, const Query& query, std::uint32_t kv_head, float* out) const;
  void list_together(const Call& call, std::uint32_t item);
  Work work_of(unsigned thread);

  BlockRule rule_;
  std::uint32_t n_kv_heads_ = 0, group_ = 0, head_dim_ = 0;
  std::size_t max_blocks_ = 0;  // of a sequence
  std::size_t stride_ = 0;      // blocks of a list at most
  std::size_t n_lists_ = 0;     // queries whose lists there is memory for
  std::vector<Query> queries_;  // that choose
  std::vector<AttentionItem> items_;
  std::vector<KvRows> heads_;            // [n_lists_, n_kv_heads]
  Buffer<std::uint32_t> places_;         // [n_threads, max_blocks]
  std::vector<BlockId> blocks_;          // [n_lists_, n_kv_heads, stride_]
  Buffer<float> floats_;                 // [n_threads, group * 2 * head_dim + max_blocks]
  Buffer<std::uint32_t> orders_;         // [n_threads, max_blocks]
  std::vector<const std::byte*> parts_;  // [n_threads, max_blocks]
};

}  // namespace larder
