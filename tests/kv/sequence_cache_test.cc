#include "kv/sequence_cache.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <random>
#include <tuple>
#include <utility>

namespace larder {
namespace {

constexpr BlockClass kWide{0}, kNarrow{1};
constexpr std::uint32_t kTokens = 16;

const std::vector<BlockClassSpec> kClasses = {{512, 4}, {256, 2}};

// Full and windowed layers of two classes; the third has more heads than an extent has blocks; the
// last ones seal, all but the first block.
CacheShape mixed_shape() {
  return {kTokens,
          {{4, 0, kWide},
           {2, 20, kNarrow},
           {5, 0, kNarrow},
           {4, 1, kWide},
           {3, 0, kWide, kNarrow},
           {2, 20, kWide, kNarrow}},
          1};
}

BlockPool make(std::size_t budget_bytes) { return *BlockPool::create({budget_bytes, kClasses}); }

TEST(SequenceCache, GrowsByWholeExtents) {
  const CacheShape shape{kTokens, {{4, 0, kWide}, {2, 0, kNarrow}}};
  BlockPool pool = make(1 << 20);
  SequenceCache cache(shape, pool, 1000);
  std::array<std::uint32_t, 2> needed;
  cache.count_needed(17, needed);
  EXPECT_EQ(needed, (std::array<std::uint32_t, 2>{2, 2}));
  std::vector<BlockCopy> copies;
  ASSERT_TRUE(cache.reserve(17, copies));
  EXPECT_TRUE(copies.empty());
  EXPECT_EQ(cache.n_rows(), 0U);
  cache.commit(17);
  EXPECT_EQ(cache.n_rows(), 17U);
  EXPECT_EQ(cache.bytes(), 2 * (4 * 512 + 2 * 256U));
  EXPECT_EQ(cache.bytes(), pool.bytes_in_use());
  for (std::uint32_t head = 1; head < 4; ++head) {  // heads of a layer stand side by side
    EXPECT_EQ(to_offset(cache.table(0, head).blocks()[1]),
              to_offset(cache.table(0, 0).blocks()[1]) + head * 512);
  }
  cache.count_needed(15, needed);
  EXPECT_EQ(needed, (std::array<std::uint32_t, 2>{0, 0}));
}

TEST(SequenceCache, CommitEndsTheReservation) {
  const CacheShape shape{kTokens, {{4, 0, kWide}}};
  BlockPool pool = make(1 << 20);
  SequenceCache cache(shape, pool, 1000);
  std::vector<BlockCopy> copies;
  ASSERT_TRUE(cache.reserve(100, copies));
  cache.commit(3);
  EXPECT_EQ(cache.table(0, 0).end_block(), 1U);
  EXPECT_DEATH(cache.commit(1), "check");
}

TEST(SequenceCache, ReleasesBlocksThatLeftTheWindow) {
  const CacheShape shape{kTokens, {{4, 20, kWide}}};
  BlockPool pool = make(1 << 20);
  SequenceCache cache(shape, pool, 1000);
  std::vector<BlockCopy> copies;
  for (std::uint32_t row = 0; row < 200; ++row) {
    ASSERT_TRUE(cache.reserve(1, copies));
    cache.commit(1);
    // The next query stands at row + 1 and sees rows row + 1 - 19 and later.
    const std::uint32_t oldest = row + 1 < 19 ? 0 : row + 1 - 19;
    ASSERT_EQ(cache.table(0, 3).first_block(), oldest / kTokens);
  }
  EXPECT_TRUE(cache.can_truncate(200));
  EXPECT_TRUE(cache.can_truncate(195));
  EXPECT_FALSE(cache.can_truncate(194));  // its window begins in a block that was freed
  EXPECT_FALSE(cache.can_truncate(201));
  EXPECT_LE(pool.peak_bytes(), 3 * 4 * 512U);
}

TEST(SequenceCache, ReserveTakesAllOrNothing) {
  const CacheShape shape = mixed_shape();
  BlockPool pool = make(16 * 1024);
  SequenceCache cache(shape, pool, 10000);
  std::vector<BlockCopy> copies;
  EXPECT_FALSE(cache.reserve(200, copies));
  EXPECT_EQ(pool.bytes_in_use(), 0U);
  EXPECT_EQ(cache.bytes(), 0U);
  EXPECT_TRUE(cache.reserve(16, copies));
}

TEST(SequenceCache, TheFirstWriterCopiesASharedBlock) {
  const CacheShape shape{kTokens, {{4, 0, kWide}}};
  BlockPool pool = make(1 << 20);
  SequenceCache first(shape, pool, 1000);
  std::vector<BlockCopy> copies;
  ASSERT_TRUE(first.reserve(20, copies));
  first.commit(20);
  SequenceCache second = first.fork(20);
  EXPECT_EQ(pool.bytes_in_use(), 2 * 4 * 512U);
  const BlockId shared = first.table(0, 2).blocks()[1];
  ASSERT_TRUE(first.reserve(1, copies));
  ASSERT_EQ(copies.size(), 4U);
  EXPECT_EQ(copies[2].from, shared);
  EXPECT_EQ(copies[2].to, first.table(0, 2).blocks()[1]);
  EXPECT_EQ(second.table(0, 2).blocks()[1], shared);
  copies.clear();
  ASSERT_TRUE(second.reserve(1, copies));  // alone with the block by now
  EXPECT_TRUE(copies.empty());
  // The block that takes first's reserved row must not become shared; the full one before may.
  EXPECT_DEATH(static_cast<void>(first.fork(20)), "check");
  EXPECT_EQ(first.fork(16).n_rows(), 16U);
}

TEST(SequenceCache, SealingLayersHaveOneOpenBlockBesideTheFullOnes) {
  const CacheShape shape{kTokens, {{4, 0, kWide, kNarrow}}};
  BlockPool pool = make(1 << 20);
  SequenceCache cache(shape, pool, 1000);
  std::vector<BlockCopy> copies;
  ASSERT_TRUE(cache.reserve(40, copies));
  cache.commit(40);
  EXPECT_EQ(cache.bytes(), 2 * 4 * 256 + 4 * 512U);
  EXPECT_EQ(cache.bytes(), pool.bytes_in_use());
  EXPECT_EQ(cache.resumable_rows(39), 39U);
  EXPECT_EQ(cache.resumable_rows(31), 16U);  // its rows are sealed
  EXPECT_FALSE(cache.can_truncate(31));
  SequenceCache fork = cache.fork(35);
  EXPECT_EQ(pool.bytes_in_use(), cache.bytes());
  EXPECT_EQ(fork.open_block(0, 1), cache.open_block(0, 1));
  ASSERT_TRUE(fork.reserve(1, copies));
  EXPECT_EQ(copies.size(), 4U);
  EXPECT_NE(fork.open_block(0, 1), cache.open_block(0, 1));
  fork.commit(1);
  ASSERT_TRUE(cache.reserve(8, copies));
  cache.commit(8);  // a whole number of blocks: nothing is open
  EXPECT_EQ(cache.bytes(), 3 * 4 * 256U);
  EXPECT_EQ(cache.resumable_rows(40), 32U);
}

TEST(SequenceCache, TheFirstBlocksOfASealingLayerMayStayRaw) {
  const CacheShape shape{kTokens, {{4, 0, kWide, kNarrow}}, 2};
  BlockPool pool = make(1 << 20);
  SequenceCache cache(shape, pool, 1000);
  std::array<std::uint32_t, 2> needed;
  cache.count_needed(40, needed);
  EXPECT_EQ(needed, (std::array<std::uint32_t, 2>{3, 0}));
  cache.count_needed(64, needed);
  EXPECT_EQ(needed, (std::array<std::uint32_t, 2>{3, 4}));
  std::vector<BlockCopy> copies;
  ASSERT_TRUE(cache.reserve(70, copies));
  cache.commit(70);
  EXPECT_EQ(cache.bytes(), 3 * 4 * 512 + 2 * 4 * 256U);
  EXPECT_EQ(cache.bytes(), pool.bytes_in_use());
  std::array<std::uint64_t, 2> out;
  count_for_context(shape, kClasses, 70, 512, out);
  EXPECT_EQ(out, (std::array<std::uint64_t, 2>{3, 4}));
}

TEST(SequenceCache, ContextNeedsWhatItSays) {
  std::array<std::uint64_t, 2> out;
  count_for_context({kTokens, {{4, 0, kWide}}}, kClasses, 33, 512, out);
  EXPECT_EQ(out, (std::array<std::uint64_t, 2>{3, 0}));
  count_for_context({kTokens, {{4, 0, kWide, kNarrow}}}, kClasses, 33, 512, out);
  EXPECT_EQ(out, (std::array<std::uint64_t, 2>{1, 4}));  // 2 runs of 2 extents, and the open one
  count_for_context({kTokens, {{5, 0, kNarrow}}}, kClasses, 33, 512, out);
  EXPECT_EQ(out, (std::array<std::uint64_t, 2>{0, 9}));
  // window 20, one row a step: 19 older rows and the new one touch at most 3 blocks of 16
  count_for_context({kTokens, {{4, 20, kWide}}}, kClasses, 1000, 1, out);
  EXPECT_EQ(out, (std::array<std::uint64_t, 2>{3, 0}));
  count_for_context({kTokens, {{4, 1, kWide}}}, kClasses, 1000, 1, out);
  EXPECT_EQ(out, (std::array<std::uint64_t, 2>{1, 0}));
  count_for_context({kTokens, {{4, 1, kWide}}}, kClasses, 10, 1000, out);
  EXPECT_EQ(out, (std::array<std::uint64_t, 2>{1, 0}));
}

// Sequences over one pool, and what each of their rows must read as. The bytes of a block are
// played by a map, so that a write to a shared block or a wrong table shows up as a wrong row.
class World {
 public:
  explicit World(unsigned seed, std::size_t budget_bytes)
      : random_(seed), shape_(mixed_shape()), pool_(make(budget_bytes)) {}

  void step() {
    const auto choice = random_() % 100;
    if (sequences_.empty() || (choice < 10 && sequences_.size() < 6)) {
      sequences_.push_back({std::make_unique<SequenceCache>(shape_, pool_, kMaxTokens), {}});
      return;
    }
    const std::size_t i = random_() % sequences_.size();
    if (choice < 70) {
      grow(sequences_[i]);
    } else if (choice < 80) {
      if (sequences_.size() < 6) fork(sequences_[i]);
    } else if (choice < 90) {
      truncate(sequences_[i]);
    } else {
      sequences_.erase(sequences_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }

  // Invariants 1 and 2 of the design, and that every visible row reads as written.
  void check() {
    std::map<BlockId, std::pair<std::uint32_t, std::size_t>> live;  // count, bytes
    for (const Item& item : sequences_) {
      check_rows(item);
      for (std::uint32_t l = 0; l < shape_.layers.size(); ++l) {
        for (std::uint32_t h = 0; h < shape_.layers[l].n_kv_heads; ++h) {
          for (const BlockId id : item.cache->table(l, h).blocks()) {
            ++live[id].first;
            live[id].second = pool_.block_bytes(pool_.block_class(id));
          }
          if (!shape_.layers[l].seals() || item.rows.size() % kTokens == 0) continue;
          const BlockId open = item.cache->open_block(l, h);
          ++live[open].first;
          live[open].second = pool_.block_bytes(shape_.layers[l].open_class);
        }
      }
    }
    std::size_t bytes = 0;
    for (const auto& [id, block] : live) {
      ASSERT_EQ(pool_.ref_count(id), block.first);
      bytes += block.second;
    }
    ASSERT_EQ(pool_.bytes_in_use(), bytes);
    ASSERT_LE(bytes, pool_.budget_bytes());
  }

  void clear() { sequences_.clear(); }
  const BlockPool& pool() const { return pool_; }
  int n_refused() const { return n_refused_; }
  int n_copied() const { return n_copied_; }

 private:
  static constexpr std::uint32_t kMaxTokens = 400;
  struct Item {
    std::unique_ptr<SequenceCache> cache;
    std::vector<int> rows;  // what each row holds
  };
  using Cell = std::tuple<BlockId, std::uint32_t>;

  void grow(Item& item) {
    const auto room = static_cast<std::uint32_t>(kMaxTokens - item.rows.size());
    const auto n = std::min<std::uint32_t>(
        room, random_() % 4 != 0 ? 1U : static_cast<std::uint32_t>(random_() % 60));
    const std::size_t before = pool_.bytes_in_use();
    std::vector<BlockCopy> copies;
    if (!item.cache->reserve(n, copies)) {
      ++n_refused_;
      ASSERT_EQ(pool_.bytes_in_use(), before);
      ASSERT_TRUE(copies.empty());
      return;
    }
    n_copied_ += static_cast<int>(copies.size());
    for (const BlockCopy& copy : copies) {
      for (std::uint32_t t = 0; t < kTokens; ++t) memory_[{copy.to, t}] = memory_[{copy.from, t}];
    }
    const auto n_written = random_() % 5 == 0 ? n / 2 : n;
    for (std::uint32_t i = 0; i < n_written; ++i) {
      write(item, static_cast<std::uint32_t>(item.rows.size()), ++last_value_);
      item.rows.push_back(last_value_);
      if (item.rows.size() % kTokens == 0) seal(item);
    }
    item.cache->commit(n_written);
  }

  void write(const Item& item, std::uint32_t row, int value) {
    for (std::uint32_t l = 0; l < shape_.layers.size(); ++l) {
      for (std::uint32_t h = 0; h < shape_.layers[l].n_kv_heads; ++h) {
        const BlockId id = block_of(item, l, h, row);
        ASSERT_EQ(pool_.ref_count(id), 1U) << "a shared block is written";
        memory_[{id, row % kTokens}] = value + static_cast<int>(1000000 * (l * 16 + h));
      }
    }
  }

  // The last block of the sequence is full: what its open block holds goes into the table's.
  void seal(const Item& item) {
    const auto n_rows = static_cast<std::uint32_t>(item.rows.size());
    for (std::uint32_t l = 0; l < shape_.layers.size(); ++l) {
      if (!shape_.layers[l].seals()) continue;
      for (std::uint32_t h = 0; h < shape_.layers[l].n_kv_heads; ++h) {
        const BlockId id = block_of(item, l, h, n_rows - 1), open = item.cache->open_block(l, h);
        ASSERT_EQ(pool_.ref_count(id), 1U) << "a shared block is written";
        for (std::uint32_t t = 0; t < kTokens; ++t) memory_[{id, t}] = memory_[{open, t}];
      }
    }
  }

  BlockId block_of(const Item& item, std::uint32_t l, std::uint32_t h, std::uint32_t row) const {
    if (shape_.layers[l].seals() && row / kTokens == item.rows.size() / kTokens) {
      return item.cache->open_block(l, h);
    }
    const BlockTable& table = item.cache->table(l, h);
    return table.blocks()[row / kTokens - table.first_block()];
  }

  void fork(const Item& item) {
    const auto n = static_cast<std::uint32_t>(random_() % (item.rows.size() + 1));
    if (!item.cache->can_truncate(n)) return;
    Item other{std::make_unique<SequenceCache>(item.cache->fork(n)),
               {item.rows.begin(), item.rows.begin() + n}};
    sequences_.push_back(std::move(other));
  }

  void truncate(Item& item) {
    const auto back = static_cast<std::uint32_t>(random_() % 20);
    const auto n_rows = static_cast<std::uint32_t>(item.rows.size());
    const std::uint32_t n = n_rows - std::min(back, n_rows);
    if (!item.cache->can_truncate(n)) return;
    item.cache->truncate(n);
    item.rows.resize(n);
  }

  void check_rows(const Item& item) {
    const auto n_rows = static_cast<std::uint32_t>(item.rows.size());
    ASSERT_EQ(item.cache->n_rows(), n_rows);
    for (std::uint32_t l = 0; l < shape_.layers.size(); ++l) {
      const std::uint32_t window = shape_.layers[l].window;
      const std::uint32_t oldest = window == 0 || n_rows + 1 <= window ? 0 : n_rows + 1 - window;
      for (std::uint32_t h = 0; h < shape_.layers[l].n_kv_heads; ++h) {
        ASSERT_EQ(item.cache->table(l, h).end_block(),
                  (n_rows + (shape_.layers[l].seals() ? 0 : kTokens - 1)) / kTokens);
        for (std::uint32_t row = oldest; row < n_rows; ++row) {
          const int read = memory_.at({block_of(item, l, h, row), row % kTokens});
          ASSERT_EQ(read, item.rows[row] + static_cast<int>(1000000 * (l * 16 + h)));
        }
      }
    }
  }

  std::mt19937 random_;
  CacheShape shape_;
  BlockPool pool_;
  std::vector<Item> sequences_;
  std::map<Cell, int> memory_;
  int last_value_ = 0, n_refused_ = 0, n_copied_ = 0;
};

TEST(SequenceCache, AgreesWithTheModel) {
  int n_refused = 0, n_copied = 0;
  for (unsigned seed = 0; seed < 4; ++seed) {
    World world(seed, seed % 2 == 0 ? 200 << 10 : 60 << 10);
    for (int i = 0; i < 600; ++i) {
      world.step();
      world.check();
      if (HasFatalFailure()) return;
    }
    n_refused += world.n_refused();
    n_copied += world.n_copied();
    world.clear();
    EXPECT_EQ(world.pool().bytes_in_use(), 0U);
  }
  EXPECT_GT(n_refused, 20);  // both paths were walked
  EXPECT_GT(n_copied, 20);
}

// The arithmetic that users are shown: a budget of budget_for(count_for_context) never refuses.
TEST(SequenceCache, ABudgetForTheContextSuffices) {
  const CacheShape shape = mixed_shape();
  constexpr std::uint32_t kContext = 150, kSequences = 3, kStep = 24;
  std::array<std::uint64_t, 2> extents;
  count_for_context(shape, kClasses, kContext, kStep, extents);
  for (auto& n : extents) n *= kSequences;
  BlockPool pool = make(budget_for(kClasses, extents));
  std::mt19937 random(3);
  std::vector<BlockCopy> copies;
  std::vector<SequenceCache> caches;
  for (std::uint32_t i = 0; i < kSequences; ++i) caches.emplace_back(shape, pool, kContext);
  for (int i = 0; i < 2000; ++i) {
    SequenceCache& cache = caches[random() % kSequences];
    if (cache.n_rows() == kContext) cache = SequenceCache(shape, pool, kContext);
    const auto n = static_cast<std::uint32_t>(1 + random() % kStep);
    const std::uint32_t rows = std::min(n, kContext - cache.n_rows());
    ASSERT_TRUE(cache.reserve(rows, copies));
    cache.commit(rows);
  }
}

}  // namespace
}  // namespace larder
