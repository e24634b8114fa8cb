// Reference counts and free space over the physical blocks of the KV cache.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/block_id.h"
#include "kv/slab_set.h"
#include "larder/result.h"

namespace larder {

/// Index of a block size in BlockPoolOptions::classes.
enum class BlockClass : std::uint8_t {};

inline constexpr std::size_t kMaxBlockClasses = 64;
inline constexpr std::uint32_t kMaxExtentBlocks = 64;

struct BlockClassSpec {
  std::size_t block_bytes;      // multiple of kBlockQuantum
  std::uint32_t extent_blocks;  // blocks of all KV heads of a layer for one token run: 1..64
};

struct BlockPoolOptions {
  std::size_t budget_bytes = 0;
  std::vector<BlockClassSpec> classes;
  std::size_t slab_bytes = 0;       // 0: choose_slab_bytes(classes)
  std::size_t n_spare_classes = 0;  // the last ones, for which a budget need not have a slab
};

/// Size of a slab when the options do not say: with E the bytes of the largest extent, the smallest
/// of E, 2E, ... 8E in which no class wastes more than 1/32 (where there is none, the one whose
/// worst class wastes least). One class alone therefore has slabs of one extent and wastes nothing.
/// REQUIRES: classes that BlockPool::create accepts.
std::size_t choose_slab_bytes(std::span<const BlockClassSpec> classes);

/// The smallest budget in which `n_extents[c]` extents of each class c can be live at the same
/// time, in whatever order they come and go (as long as blocks are released extent by extent):
/// slab_bytes * sum over c of ceil(n_extents[c] / floor(slab_bytes / extent bytes of c)).
/// `slab_bytes` 0 as in BlockPoolOptions. SIZE_MAX when the sum overflows. REQUIRES: n_extents
/// has one entry per class; classes and slab_bytes that BlockPool::create accepts.
std::size_t budget_for(std::span<const BlockClassSpec> classes,
                       std::span<const std::uint64_t> n_extents, std::size_t slab_bytes = 0);

/// How long extents were in use: how many less than 2^i milliseconds and at least half of that
/// (i = 0: less than one). The last also those that lived longer.
struct BlockLifetimes {
  std::array<std::uint64_t, 24> counts{};
  double seconds = 0;  // of all together
};

struct ClassUse {  // of the blocks of a class
  std::size_t n_live = 0;
  std::size_t n_shared = 0;  // of those, what several refer to
};

struct PoolRange {  // bytes of the pool's range
  std::size_t offset, bytes;
};

/// Hands out blocks within a byte budget. One range of at most `budget_bytes` is cut into slabs; a
/// slab serves one class while it holds any live block and returns to the common stock when it
/// holds none, so blocks of different formats live side by side and the budget is exact. Extents
/// keep the blocks of all heads of a layer next to each other (design: strewn 4-bit blocks lose a
/// quarter of the bandwidth); single blocks fill extents that were partly freed.
/// Knows ids and sizes; never bytes, tokens or policies.
/// Invariants: a block is free exactly when its count is zero; bytes_in_use() is the sum of
/// block_bytes over live blocks and never exceeds the budget. Not thread-safe: one scheduler owns
/// it. Allocates memory only in create(), and touches that only as slabs are first used. Every
/// operation is constant time, except that a slab's return costs one step per extent in it.
class BlockPool {
 public:
  /// Errors: invalid_argument (sizes), when the budget cannot hold one extent of each class but the
  /// spare ones, and when the budget exceeds what ids reach (256 GiB); unavailable when there is no
  /// memory for the books.
  static Result<BlockPool> create(const BlockPoolOptions& options);

  /// `out.size()` neighbouring blocks, each with count 1. False when they are not to be had (an
  /// outcome, not an error); then nothing is taken. Fewer than extent_blocks leave the rest of the
  /// extent to single blocks. REQUIRES: 0 < out.size() <= extent_blocks of the class.
  bool acquire_extent(BlockClass cls, std::span<BlockId> out);
  std::optional<BlockId> acquire(
      BlockClass cls);       // one block, from a broken extent if there is one
  void share(BlockId id);    // count + 1. REQUIRES: count > 0
  bool release(BlockId id);  // count - 1; true when that made the block free. REQUIRES: count > 0

  /// Whether `n_extents[c]` extents of each class could be acquired now, one class beside the
  /// other.
  bool can_acquire(std::span<const std::uint32_t> n_extents) const;
  /// Extents of the class that could be acquired right now, if nobody took of another class.
  std::size_t n_free_extents(BlockClass cls) const noexcept;

  /// [n_classes]. Costs a walk over all blocks of the slabs in use.
  std::vector<ClassUse> count_blocks() const;

  /// Takes up to out.size() runs of free slabs off the list of those that were used since they
  /// were last listed; returns how many. The caller gives their memory back (BlockStore::discard)
  /// while no block is acquired. For idle moments, not for the step path.
  std::size_t take_idle(std::span<PoolRange> out);
  std::size_t idle_bytes() const noexcept { return idle_.size() * slab_bytes_; }

  /// The time, from any beginning, that extents are dated with from here on. Wraps around.
  void set_time(std::uint32_t milliseconds) noexcept { now_ms_ = milliseconds; }
  /// From an extent's first block to the end of its last one. Of extents that are free again.
  const BlockLifetimes& lifetimes() const noexcept { return lifetimes_; }

  std::uint32_t ref_count(BlockId id) const;  // 0 for a free block
  BlockClass block_class(BlockId id) const;   // REQUIRES: count > 0
  std::size_t block_bytes(BlockClass cls) const;
  std::uint32_t extent_blocks(BlockClass cls) const;
  std::size_t n_classes() const noexcept { return classes_.size(); }
  std::size_t budget_bytes() const noexcept { return budget_bytes_; }
  std::size_t slab_bytes() const noexcept { return slab_bytes_; }
  std::size_t bytes_in_use() const noexcept { return bytes_in_use_; }
  std::size_t peak_bytes() const noexcept { return peak_bytes_; }  // highest bytes_in_use() so far
  std::size_t range_bytes() const noexcept {  // bytes to reserve for the pool; <= budget
    return n_slabs_ * slab_bytes_;
  }

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  enum class ListKind : std::uint8_t { whole, broken };

  struct Class {
    std::size_t block_bytes;
    std::uint32_t block_quanta;  // block_bytes in units of kBlockQuantum
    std::uint32_t extent_blocks;
    std::uint32_t extents_per_slab;
    std::uint32_t first_whole = kNone;   // list of extents without a live block, in slabs in use
    std::uint32_t first_broken = kNone;  // list of extents with live and free blocks
    std::size_t n_whole = 0;
  };
  struct Slab {
    std::uint32_t n_live_extents;  // extents with a live block
    BlockClass cls;
    bool in_use;
  };
  struct Extent {
    std::uint64_t free;        // bit i: block i is free
    std::uint32_t prev, next;  // in the list it belongs to; none when every block is live
  };
  struct Place {  // where a block is
    std::uint32_t slab;
    std::uint32_t extent;  // index into extents_
    std::uint32_t block;   // within the extent
    std::size_t count;     // index into ref_counts_
  };

  BlockPool() = default;
  Result<void> allocate_books();
  std::size_t n_stock() const noexcept { return stock_.size() + n_slabs_ - n_known_; }
  std::optional<Place> find(BlockId id) const;
  Place find_live(BlockId id) const;
  std::uint32_t take_slab(BlockClass cls);
  std::uint32_t pick_whole(BlockClass cls);
  BlockId take_block(BlockClass cls, std::uint32_t extent, std::uint32_t block);
  void return_slab(std::uint32_t slab);
  void count_lifetime(std::uint32_t extent) noexcept;
  void relist(Class& c, std::uint32_t extent, std::uint64_t old_free, std::uint64_t new_free);
  void link(Class& c, ListKind kind, std::uint32_t extent);
  void unlink(Class& c, ListKind kind, std::uint32_t extent);
  std::uint64_t all_free(const Class& c) const noexcept {
    return ~std::uint64_t{0} >> (64 - c.extent_blocks);
  }

  std::vector<Class> classes_;
  std::size_t budget_bytes_ = 0, slab_bytes_ = 0, n_slabs_ = 0;
  std::size_t bytes_in_use_ = 0, peak_bytes_ = 0;
  std::uint32_t slab_extents_ = 0;  // most extents any class has in a slab: stride of extents_
  std::uint32_t slab_blocks_ = 0;   // most blocks any class has in a slab: stride of ref_counts_
  std::uint32_t n_known_ = 0;       // slabs below were used before, those from here on never
  SlabSet stock_;                   // of those, the ones without a live block
  SlabSet idle_;                    // of those, the ones that may still hold memory
  // Written when a slab is first used: a large budget costs memory for its books only as it fills.
  std::unique_ptr<Slab[]> slabs_;                // [n_slabs]
  std::unique_ptr<Extent[]> extents_;            // [n_slabs, slab_extents_]
  std::unique_ptr<std::uint32_t[]> ref_counts_;  // [n_slabs, slab_blocks_]
  std::unique_ptr<std::uint32_t[]> born_ms_;     // [n_slabs, slab_extents_]
  std::uint32_t now_ms_ = 0;
  BlockLifetimes lifetimes_;
};

}  // namespace larder
