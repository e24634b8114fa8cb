#include "kv/block_pool.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <new>

#include "base/check.h"
#include "base/fail.h"

namespace larder {
namespace {

constexpr std::size_t kMaxRangeBytes = kBlockQuantum << 32;  // what a BlockId can name
constexpr std::size_t kMaxExtentsPerSlab = 1U << 16;
constexpr std::size_t kMaxBlocks = std::size_t{1} << 28;  // keeps the books below 2 GiB

std::size_t extent_bytes(const BlockClassSpec& spec) {
  return spec.block_bytes * spec.extent_blocks;
}

std::size_t largest_extent(std::span<const BlockClassSpec> classes) {
  std::size_t largest = 0;
  for (const BlockClassSpec& spec : classes) largest = std::max(largest, extent_bytes(spec));
  return largest;
}

Result<void> check_classes(const BlockPoolOptions& options) {
  if (options.classes.empty() || options.classes.size() > kMaxBlockClasses) {
    return fail(Errc::invalid_argument, "KV pool: {} block classes (1 to {} are possible)",
                options.classes.size(), kMaxBlockClasses);
  }
  for (const BlockClassSpec& spec : options.classes) {
    if (spec.block_bytes == 0 || spec.block_bytes % kBlockQuantum != 0 ||
        spec.block_bytes > kMaxRangeBytes / kMaxExtentBlocks) {
      return fail(Errc::invalid_argument,
                  "KV pool: a block of {} bytes (must be a multiple of {}, at most {})",
                  spec.block_bytes, kBlockQuantum, kMaxRangeBytes / kMaxExtentBlocks);
    }
    if (spec.extent_blocks == 0 || spec.extent_blocks > kMaxExtentBlocks) {
      return fail(Errc::invalid_argument, "KV pool: an extent of {} blocks (1 to {} are possible)",
                  spec.extent_blocks, kMaxExtentBlocks);
    }
  }
  return {};
}

Result<void> check_slabs(const BlockPoolOptions& options) {
  if (options.slab_bytes == 0) return {};
  std::size_t smallest = kMaxRangeBytes;
  for (const BlockClassSpec& spec : options.classes) {
    smallest = std::min(smallest, extent_bytes(spec));
  }
  if (options.slab_bytes % kBlockQuantum != 0 || options.slab_bytes > kMaxRangeBytes ||
      options.slab_bytes < largest_extent(options.classes) ||
      options.slab_bytes / smallest > kMaxExtentsPerSlab) {
    return fail(Errc::invalid_argument,
                "KV pool: slabs of {} bytes (must be a multiple of {} that holds an extent of {} "
                "bytes and at most {} of the smallest, {} bytes)",
                options.slab_bytes, kBlockQuantum, largest_extent(options.classes),
                kMaxExtentsPerSlab, smallest);
  }
  return {};
}

}  // namespace

std::size_t choose_slab_bytes(std::span<const BlockClassSpec> classes) {
  const std::size_t largest = largest_extent(classes);
  std::size_t best = largest;
  double best_waste = 1.0;
  for (std::size_t multiple = 1; multiple <= 8; ++multiple) {
    const std::size_t slab = multiple * largest;
    double worst = 0.0;
    for (const BlockClassSpec& spec : classes) {
      const auto unused = static_cast<double>(slab % extent_bytes(spec));
      worst = std::max(worst, unused / static_cast<double>(slab));
    }
    if (worst <= 1.0 / 32) return slab;
    if (worst < best_waste) {
      best_waste = worst;
      best = slab;
    }
  }
  return best;
}

std::size_t budget_for(std::span<const BlockClassSpec> classes,
                       std::span<const std::uint64_t> n_extents, std::size_t slab_bytes) {
  LARDER_CHECK(n_extents.size() == classes.size());
  const std::size_t slab = slab_bytes != 0 ? slab_bytes : choose_slab_bytes(classes);
  std::size_t total = 0;
  for (std::size_t c = 0; c < classes.size(); ++c) {
    const std::uint64_t per_slab = slab / extent_bytes(classes[c]);
    LARDER_CHECK(per_slab > 0);
    const std::uint64_t n_slabs = n_extents[c] / per_slab + (n_extents[c] % per_slab != 0);
    std::size_t bytes = 0;
    if (__builtin_mul_overflow(n_slabs, slab, &bytes) ||
        __builtin_add_overflow(total, bytes, &total)) {
      return std::numeric_limits<std::size_t>::max();
    }
  }
  return total;
}

Result<BlockPool> BlockPool::create(const BlockPoolOptions& options) {
  LARDER_TRY(check_classes(options));
  LARDER_TRY(check_slabs(options));
  if (options.budget_bytes > kMaxRangeBytes) {
    return fail(Errc::invalid_argument, "KV pool: a budget of {} bytes (at most {} are possible)",
                options.budget_bytes, kMaxRangeBytes);
  }
  BlockPool pool;
  pool.budget_bytes_ = options.budget_bytes;
  pool.slab_bytes_ =
      options.slab_bytes != 0 ? options.slab_bytes : choose_slab_bytes(options.classes);
  pool.n_slabs_ = options.budget_bytes / pool.slab_bytes_;
  LARDER_CHECK(options.n_spare_classes < options.classes.size());
  const std::size_t n_needed = options.classes.size() - options.n_spare_classes;
  if (pool.n_slabs_ < n_needed) {
    return fail(Errc::invalid_argument,
                "KV pool: a budget of {} bytes cannot hold one extent of each of {} block classes "
                "(needs {} bytes: a slab of {} for each)",
                options.budget_bytes, n_needed, n_needed * pool.slab_bytes_, pool.slab_bytes_);
  }
  for (const BlockClassSpec& spec : options.classes) {
    Class c{};
    c.block_bytes = spec.block_bytes;
    c.block_quanta = static_cast<std::uint32_t>(spec.block_bytes / kBlockQuantum);
    c.extent_blocks = spec.extent_blocks;
    c.extents_per_slab = static_cast<std::uint32_t>(pool.slab_bytes_ / extent_bytes(spec));
    pool.slab_extents_ = std::max(pool.slab_extents_, c.extents_per_slab);
    pool.slab_blocks_ = std::max(pool.slab_blocks_, c.extents_per_slab * c.extent_blocks);
    pool.classes_.push_back(c);
  }
  if (pool.n_slabs_ > kMaxBlocks / pool.slab_blocks_) {
    return fail(Errc::invalid_argument,
                "KV pool: a budget of {} bytes is {} slabs of up to {} blocks (at most {} blocks "
                "are possible)",
                options.budget_bytes, pool.n_slabs_, pool.slab_blocks_, kMaxBlocks);
  }
  LARDER_TRY(pool.allocate_books());
  return pool;
}

Result<void> BlockPool::allocate_books() {
  try {
    stock_ = SlabSet(n_slabs_);
    idle_ = SlabSet(n_slabs_);
    slabs_ = std::make_unique_for_overwrite<Slab[]>(n_slabs_);
    extents_ = std::make_unique_for_overwrite<Extent[]>(n_slabs_ * slab_extents_);
    ref_counts_ = std::make_unique_for_overwrite<std::uint32_t[]>(n_slabs_ * slab_blocks_);
    born_ms_ = std::make_unique_for_overwrite<std::uint32_t[]>(n_slabs_ * slab_extents_);
  } catch (const std::bad_alloc&) {
    return fail(Errc::unavailable, "KV pool: no memory for the books of {} slabs of {} bytes",
                n_slabs_, slab_bytes_);
  }
  return {};
}

bool BlockPool::acquire_extent(BlockClass cls, std::span<BlockId> out) {
  const Class& c = classes_[static_cast<std::size_t>(cls)];
  LARDER_CHECK(!out.empty() && out.size() <= c.extent_blocks);
  const std::uint32_t extent = pick_whole(cls);
  if (extent == kNone) return false;
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = take_block(cls, extent, static_cast<std::uint32_t>(i));
  }
  return true;
}

std::optional<BlockId> BlockPool::acquire(BlockClass cls) {
  const std::uint32_t broken = classes_[static_cast<std::size_t>(cls)].first_broken;
  const std::uint32_t extent = broken != kNone ? broken : pick_whole(cls);
  if (extent == kNone) return std::nullopt;
  return take_block(cls, extent,
                    static_cast<std::uint32_t>(std::countr_zero(extents_[extent].free)));
}

void BlockPool::share(BlockId id) {
  const Place place = find_live(id);
  LARDER_CHECK(ref_counts_[place.count] != std::numeric_limits<std::uint32_t>::max());
  ++ref_counts_[place.count];
}

bool BlockPool::release(BlockId id) {
  const Place place = find_live(id);
  if (--ref_counts_[place.count] != 0) return false;
  Slab& slab = slabs_[place.slab];
  Class& c = classes_[static_cast<std::size_t>(slab.cls)];
  Extent& extent = extents_[place.extent];
  const std::uint64_t free = extent.free | std::uint64_t{1} << place.block;
  bytes_in_use_ -= c.block_bytes;
  relist(c, place.extent, extent.free, free);
  extent.free = free;
  if (free != all_free(c)) return true;
  count_lifetime(place.extent);
  if (--slab.n_live_extents == 0) return_slab(place.slab);
  return true;
}

bool BlockPool::can_acquire(std::span<const std::uint32_t> n_extents) const {
  LARDER_CHECK(n_extents.size() == classes_.size());
  std::size_t n_slabs = 0;
  for (std::size_t i = 0; i < classes_.size(); ++i) {
    const Class& c = classes_[i];
    if (n_extents[i] <= c.n_whole) continue;
    n_slabs += (n_extents[i] - c.n_whole + c.extents_per_slab - 1) / c.extents_per_slab;
  }
  return n_slabs <= n_stock();
}

std::size_t BlockPool::n_free_extents(BlockClass cls) const noexcept {
  const Class& c = classes_[static_cast<std::size_t>(cls)];
  return c.n_whole + n_stock() * c.extents_per_slab;
}

std::size_t BlockPool::take_idle(std::span<PoolRange> out) {
  std::size_t n = 0;
  while (const auto slab = idle_.lowest()) {
    const std::size_t offset = *slab * slab_bytes_;
    const bool continues = n > 0 && out[n - 1].offset + out[n - 1].bytes == offset;
    if (!continues && n == out.size()) break;
    if (!continues) out[n++] = {offset, 0};
    out[n - 1].bytes += slab_bytes_;
    idle_.erase(*slab);
  }
  return n;
}

std::uint32_t BlockPool::ref_count(BlockId id) const {
  const auto place = find(id);
  return place ? ref_counts_[place->count] : 0;
}

BlockClass BlockPool::block_class(BlockId id) const { return slabs_[find_live(id).slab].cls; }

std::size_t BlockPool::block_bytes(BlockClass cls) const {
  return classes_[static_cast<std::size_t>(cls)].block_bytes;
}

std::uint32_t BlockPool::extent_blocks(BlockClass cls) const {
  return classes_[static_cast<std::size_t>(cls)].extent_blocks;
}

std::optional<BlockPool::Place> BlockPool::find(BlockId id) const {
  const auto slab_quanta = slab_bytes_ / kBlockQuantum;
  const std::size_t slab = to_index(id) / slab_quanta;
  if (slab >= n_known_ || !slabs_[slab].in_use) return std::nullopt;
  const Class& c = classes_[static_cast<std::size_t>(slabs_[slab].cls)];
  const auto rest = static_cast<std::uint32_t>(to_index(id) - slab * slab_quanta);
  const std::uint32_t block = rest / c.block_quanta;
  const std::uint32_t extent = block / c.extent_blocks;
  if (rest != block * c.block_quanta || extent >= c.extents_per_slab) return std::nullopt;
  return Place{static_cast<std::uint32_t>(slab),
               static_cast<std::uint32_t>(slab * slab_extents_ + extent),
               block - extent * c.extent_blocks, slab * slab_blocks_ + block};
}

BlockPool::Place BlockPool::find_live(BlockId id) const {
  const auto place = find(id);
  LARDER_CHECK(place.has_value());
  LARDER_CHECK(ref_counts_[place->count] > 0);
  return *place;
}

std::vector<ClassUse> BlockPool::count_blocks() const {
  std::vector<ClassUse> uses(classes_.size());
  for (std::uint32_t slab = 0; slab < n_known_; ++slab) {
    if (!slabs_[slab].in_use) continue;
    ClassUse& use = uses[static_cast<std::size_t>(slabs_[slab].cls)];
    for (std::uint32_t i = 0; i < slab_blocks_; ++i) {  // those beyond the class's have no count
      const std::uint32_t n = ref_counts_[std::size_t{slab} * slab_blocks_ + i];
      use.n_live += n > 0 ? 1 : 0;
      use.n_shared += n > 1 ? 1 : 0;
    }
  }
  return uses;
}

std::uint32_t BlockPool::pick_whole(BlockClass cls) {
  const std::uint32_t whole = classes_[static_cast<std::size_t>(cls)].first_whole;
  return whole != kNone ? whole : take_slab(cls);
}

// Makes the lowest free slab serve `cls`; returns its first extent, or kNone.
std::uint32_t BlockPool::take_slab(BlockClass cls) {
  if (n_stock() == 0) return kNone;
  const std::uint32_t slab = stock_.lowest().value_or(n_known_);
  if (slab == n_known_) {
    ++n_known_;
  } else {
    stock_.erase(slab);
    idle_.erase(slab);
  }
  slabs_[slab] = {0, cls, true};
  Class& c = classes_[static_cast<std::size_t>(cls)];
  const std::uint32_t first = slab * slab_extents_;
  for (std::uint32_t i = c.extents_per_slab; i-- > 0;) {
    extents_[first + i].free = all_free(c);
    link(c, ListKind::whole, first + i);
  }
  std::fill_n(&ref_counts_[std::size_t{slab} * slab_blocks_], slab_blocks_, 0U);
  return first;
}

BlockId BlockPool::take_block(BlockClass cls, std::uint32_t extent, std::uint32_t block) {
  Class& c = classes_[static_cast<std::size_t>(cls)];
  const std::uint32_t slab = extent / slab_extents_;
  const std::uint32_t in_slab = (extent - slab * slab_extents_) * c.extent_blocks + block;
  const std::uint64_t old_free = extents_[extent].free;
  const std::uint64_t free = old_free & ~(std::uint64_t{1} << block);
  if (old_free == all_free(c)) {
    ++slabs_[slab].n_live_extents;
    born_ms_[extent] = now_ms_;
  }
  relist(c, extent, old_free, free);
  extents_[extent].free = free;
  ref_counts_[std::size_t{slab} * slab_blocks_ + in_slab] = 1;
  bytes_in_use_ += c.block_bytes;
  peak_bytes_ = std::max(peak_bytes_, bytes_in_use_);
  return BlockId{static_cast<std::uint32_t>(slab * (slab_bytes_ / kBlockQuantum) +
                                            std::size_t{in_slab} * c.block_quanta)};
}

void BlockPool::count_lifetime(std::uint32_t extent) noexcept {
  const std::uint32_t ms = now_ms_ - born_ms_[extent];
  const auto bucket = static_cast<std::size_t>(std::bit_width(ms));
  ++lifetimes_.counts[std::min(bucket, lifetimes_.counts.size() - 1)];
  lifetimes_.seconds += 1e-3 * ms;
}

// All of its extents are whole and in the list: they leave it.
void BlockPool::return_slab(std::uint32_t slab) {
  Class& c = classes_[static_cast<std::size_t>(slabs_[slab].cls)];
  for (std::uint32_t i = 0; i < c.extents_per_slab; ++i) {
    unlink(c, ListKind::whole, slab * slab_extents_ + i);
  }
  slabs_[slab].in_use = false;
  stock_.insert(slab);
  idle_.insert(slab);
}

void BlockPool::relist(Class& c, std::uint32_t extent, std::uint64_t old_free,
                       std::uint64_t new_free) {
  const auto kind_of = [&](std::uint64_t free) {
    return free == all_free(c) ? ListKind::whole : ListKind::broken;
  };
  if (old_free != 0 && new_free != 0 && kind_of(old_free) == kind_of(new_free)) return;
  if (old_free != 0) unlink(c, kind_of(old_free), extent);
  if (new_free != 0) link(c, kind_of(new_free), extent);
}

void BlockPool::link(Class& c, ListKind kind, std::uint32_t extent) {
  std::uint32_t& first = kind == ListKind::whole ? c.first_whole : c.first_broken;
  if (kind == ListKind::whole) ++c.n_whole;
  extents_[extent].prev = kNone;
  extents_[extent].next = first;
  if (first != kNone) extents_[first].prev = extent;
  first = extent;
}

void BlockPool::unlink(Class& c, ListKind kind, std::uint32_t extent) {
  std::uint32_t& first = kind == ListKind::whole ? c.first_whole : c.first_broken;
  if (kind == ListKind::whole) --c.n_whole;
  const Extent& e = extents_[extent];
  if (e.prev != kNone) extents_[e.prev].next = e.next;
  if (e.next != kNone) extents_[e.next].prev = e.prev;
  if (first == extent) first = e.next;
}

}  // namespace larder
