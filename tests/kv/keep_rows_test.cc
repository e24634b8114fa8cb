// Rows that are dropped from a sequence's cache: what stays where, and which blocks go back.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "kv/sequence_cache.h"

namespace larder {
namespace {

constexpr BlockClass kWide{0}, kNarrow{1};
constexpr std::uint32_t kTokens = 16;
const std::vector<BlockClassSpec> kClasses = {{512, 4}, {256, 2}};

// The first and third layer drop rows; the third has more heads than an extent has blocks.
CacheShape dropping_shape() {
  CacheShape shape{kTokens, {{4, 0, kWide}, {2, 20, kNarrow}, {5, 0, kNarrow}}};
  shape.layers[0].max_stored = shape.layers[2].max_stored = 120;
  return shape;
}

/// The rows of a head of a layer as a test would write them: (position, head) in a block and row.
class Bytes {
 public:
  using Row = std::pair<std::uint32_t, std::uint32_t>;
  void write(BlockId block, std::uint32_t row, Row value) { rows_[{block, row}] = value; }
  Row read(BlockId block, std::uint32_t row) const { return rows_.at({block, row}); }
  void copy_block(const BlockCopy& copy) {
    for (std::uint32_t row = 0; row < kTokens; ++row) {
      const auto it = rows_.find({copy.from, row});
      if (it != rows_.end()) rows_[{copy.to, row}] = it->second;
    }
  }
  void move(const RowMove& m) { rows_[{m.to, m.to_row}] = rows_.at({m.from, m.from_row}); }

 private:
  std::map<std::pair<BlockId, std::uint32_t>, Row> rows_;
};

/// A cache beside a plain list of what it should hold: [layer][head][row] = position.
class Checked {
 public:
  Checked(const CacheShape& shape, SequenceCache cache) : shape_(shape), cache_(std::move(cache)) {
    for (const CacheLayer& layer : shape.layers) rows_.emplace_back(layer.n_kv_heads);
  }

  SequenceCache& cache() { return cache_; }
  Checked fork() const {
    Checked other(shape_, cache_.fork(cache_.n_rows()));
    other.rows_ = rows_;
    return other;
  }

  bool grow(std::uint32_t n, std::uint32_t n_kept, Bytes& bytes) {
    std::vector<BlockCopy> copies;
    if (!cache_.reserve(n, copies, n_kept)) return false;
    for (const BlockCopy& copy : copies) bytes.copy_block(copy);
    for (std::uint32_t l = 0; l < rows_.size(); ++l) {
      for (std::uint32_t h = 0; h < rows_[l].size(); ++h) {
        for (std::uint32_t i = 0; i < n; ++i) append(l, h, cache_.n_rows() + i, i, bytes);
      }
    }
    cache_.commit(n);
    return true;
  }

  void keep(std::uint32_t l, std::uint32_t n_kept, std::mt19937& random, Bytes& bytes) {
    auto& heads = rows_[l];
    std::vector<std::uint32_t> kept;
    const bool in_step = random() % 2 == 0;  // all heads keep the same rows, most in whole runs
    const auto offset = static_cast<std::uint32_t>(random() % 3) * kTokens;
    for (auto& rows : heads) {
      std::vector<std::uint32_t> order(rows.size());
      for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
      if (!in_step) {
        std::shuffle(order.begin(), order.end(), random);
      } else {
        std::rotate(order.begin(), order.begin() + offset % order.size(), order.end());
      }
      order.resize(n_kept);
      std::sort(order.begin(), order.end());
      kept.insert(kept.end(), order.begin(), order.end());
      std::vector<std::uint32_t> left;
      for (const std::uint32_t i : order) left.push_back(rows[i]);
      rows = left;
    }
    std::vector<std::vector<RowMove>> moves(heads.size());
    cache_.keep_rows(l, kept, moves);
    for (const auto& of_head : moves) {
      for (const RowMove& move : of_head) bytes.move(move);
    }
  }

  void check(const Bytes& bytes) const {
    for (std::uint32_t l = 0; l < rows_.size(); ++l) {
      if (shape_.layers[l].window != 0) continue;
      ASSERT_EQ(cache_.n_stored(l), rows_[l][0].size());
      for (std::uint32_t h = 0; h < rows_[l].size(); ++h) {
        const auto blocks = cache_.table(l, h).blocks();
        ASSERT_EQ(blocks.size(), (rows_[l][h].size() + kTokens - 1) / kTokens);
        for (std::uint32_t i = 0; i < rows_[l][h].size(); ++i) {
          const Bytes::Row expected{rows_[l][h][i], h};
          ASSERT_EQ(bytes.read(blocks[i / kTokens], i % kTokens), expected)
              << "layer " << l << ", head " << h << ", row " << i;
        }
      }
    }
  }

 private:
  void append(std::uint32_t l, std::uint32_t h, std::uint32_t position, std::uint32_t i,
              Bytes& bytes) {
    const BlockTable& table = cache_.table(l, h);
    const std::uint32_t row = cache_.n_stored(l) + i;
    if (row / kTokens >= table.first_block()) {
      bytes.write(table.blocks()[row / kTokens - table.first_block()], row % kTokens,
                  {position, h});
    }
    rows_[l][h].push_back(position);
  }

  const CacheShape& shape_;
  SequenceCache cache_;
  std::vector<std::vector<std::vector<std::uint32_t>>> rows_;
};

TEST(KeepRows, RandomDropsOfSequencesThatShareBlocks) {
  const CacheShape shape = dropping_shape();
  std::mt19937 random(5);
  for (int round = 0; round < 60; ++round) {
    BlockPool pool = *BlockPool::create({1 << 20, kClasses});
    {
      Bytes bytes;
      std::vector<Checked> all;
      all.emplace_back(shape, SequenceCache(shape, pool, 5000));
      for (int step = 0; step < 25; ++step) {
        const std::size_t which = random() % all.size();
        SequenceCache& cache = all[which].cache();
        const std::uint32_t n_room = 120 - std::max(cache.n_stored(0), cache.n_stored(2));
        if (n_room > 0) {
          const auto n = static_cast<std::uint32_t>(1 + random() % n_room);
          const auto n_kept = static_cast<std::uint32_t>(1 + random() % (cache.n_stored(0) + n));
          ASSERT_TRUE(all[which].grow(n, n_kept, bytes));
          if (n_kept < cache.n_stored(0)) all[which].keep(0, n_kept, random, bytes);
          if (n_kept < cache.n_stored(2)) all[which].keep(2, n_kept, random, bytes);
          cache.release_spares();
        }
        if (all.size() < 4 && random() % 4 == 0) all.push_back(all[which].fork());
        for (const Checked& each : all) each.check(bytes);
        if (HasFatalFailure()) return;
      }
      std::size_t most = 0;
      for (Checked& each : all) most += each.cache().bytes();
      EXPECT_LE(pool.bytes_in_use(), most);
    }
    EXPECT_EQ(pool.bytes_in_use(), 0U);
  }
}

TEST(KeepRows, RunsThatStayWholeMoveAsIds) {
  CacheShape shape{kTokens, {{4, 0, kWide}}};
  shape.layers[0].max_stored = 80;
  BlockPool pool = *BlockPool::create({1 << 20, kClasses});
  SequenceCache cache(shape, pool, 5000);
  std::vector<BlockCopy> copies;
  ASSERT_TRUE(cache.reserve(80, copies));
  cache.commit(80);
  const std::vector<BlockId> before(cache.table(0, 1).blocks().begin(),
                                    cache.table(0, 1).blocks().end());
  std::vector<std::uint32_t> kept;  // runs 0, 3 and 4
  for (int head = 0; head < 4; ++head) {
    for (std::uint32_t i = 0; i < 16; ++i) kept.push_back(i);
    for (std::uint32_t i = 48; i < 80; ++i) kept.push_back(i);
  }
  std::vector<std::vector<RowMove>> moves(4);
  cache.keep_rows(0, kept, moves);
  for (const auto& of_head : moves) EXPECT_TRUE(of_head.empty());
  const std::vector<BlockId> after(cache.table(0, 1).blocks().begin(),
                                   cache.table(0, 1).blocks().end());
  EXPECT_EQ(after, (std::vector<BlockId>{before[0], before[3], before[4]}));
  EXPECT_EQ(pool.bytes_in_use(), 3 * 4 * 512U);
  EXPECT_EQ(cache.n_rows(), 80U);
  EXPECT_EQ(cache.n_stored(0), 48U);
  EXPECT_FALSE(cache.can_truncate(79));
  EXPECT_TRUE(cache.can_truncate(80));
}

// Which full blocks of a layer that seals are raw is told by their place: the first ones stay,
// those behind them move up.
TEST(KeepRows, RawFirstBlocksStayWhereTheyAre) {
  CacheShape shape{kTokens, {{4, 0, kWide, kNarrow}}, 2};
  shape.layers[0].max_stored = 96;
  std::uint64_t n_extents[2];
  count_for_context(shape, kClasses, 5000, 512, n_extents);
  EXPECT_EQ(n_extents[0], 3U);  // two raw ones and the open one
  EXPECT_EQ(n_extents[1], 8U);  // of two heads each
  BlockPool pool = *BlockPool::create({budget_for(kClasses, n_extents), kClasses});
  SequenceCache cache(shape, pool, 5000);
  std::vector<BlockCopy> copies;
  std::vector<std::vector<RowMove>> moves(4);
  for (int round = 0; round < 20; ++round) {
    std::uint32_t counted[2];
    cache.count_in_steps(1000, 512, counted);
    const auto n_own = static_cast<std::uint32_t>(cache.table(0, 0).blocks().size());
    const std::uint32_t n_own_raw = std::min(n_own, 2U);
    EXPECT_EQ(counted[0] + n_own_raw, 3U);
    EXPECT_EQ(counted[1] + 2 * (n_own - n_own_raw), 8U);
    ASSERT_TRUE(cache.reserve(96 - cache.n_stored(0), copies, 64));
    cache.commit(96 - cache.n_stored(0));
    std::vector<std::uint32_t> kept;  // runs 0, 1, 4 and 5
    for (int head = 0; head < 4; ++head) {
      for (std::uint32_t i = 0; i < 32; ++i) kept.push_back(i);
      for (std::uint32_t i = 64; i < 96; ++i) kept.push_back(i);
    }
    cache.keep_rows(0, kept, moves);
    for (const auto& of_head : moves) EXPECT_TRUE(of_head.empty());
    const auto blocks = cache.table(0, 3).blocks();
    ASSERT_EQ(blocks.size(), 4U);
    for (std::uint32_t run = 0; run < 4; ++run) {
      EXPECT_EQ(pool.block_class(blocks[run]), run < 2 ? kWide : kNarrow) << run;
    }
    EXPECT_EQ(cache.bytes(), 2 * 4 * 512 + 2 * 4 * 256U);
    EXPECT_EQ(cache.bytes(), pool.bytes_in_use());
  }
  EXPECT_TRUE(copies.empty());
}

TEST(KeepRows, ASequenceNeverHoldsMoreThanCounted) {
  CacheShape shape{kTokens, {{4, 0, kWide}}};
  shape.layers[0].max_stored = 40;
  std::uint64_t n_extents[2];
  count_for_context(shape, kClasses, 5000, 512, n_extents);
  EXPECT_EQ(n_extents[0], 3U);
  BlockPool pool = *BlockPool::create(
      {budget_for(std::span(kClasses).first(1), std::span(n_extents).first(1)), {kClasses[0]}});
  SequenceCache cache(shape, pool, 5000);
  std::vector<BlockCopy> copies;
  std::vector<std::vector<RowMove>> moves(4);
  for (int round = 0; round < 100; ++round) {
    const std::uint32_t n = 40 - cache.n_stored(0);
    std::uint32_t counted[1];
    cache.count_in_steps(1000, 512, counted);
    EXPECT_LE(counted[0] + cache.table(0, 0).blocks().size(), 3U);
    ASSERT_TRUE(cache.reserve(n, copies, 17));
    cache.commit(n);
    std::vector<std::uint32_t> kept;
    for (int head = 0; head < 4; ++head) {
      for (std::uint32_t i = 0; i < 17; ++i) kept.push_back(2 * i);
    }
    cache.keep_rows(0, kept, moves);
    cache.release_spares();
  }
  EXPECT_EQ(cache.n_rows(), 40 + 99 * 23U);
  EXPECT_EQ(pool.bytes_in_use(), 2 * 4 * 512U);
}

TEST(KeepRows, RowsThatWillBeRewrittenStandInBlocksOfTheirOwn) {
  CacheShape shape{kTokens, {{2, 0, kNarrow}}};
  shape.layers[0].max_stored = 120;
  BlockPool pool = *BlockPool::create({1 << 20, kClasses});
  SequenceCache first(shape, pool, 200);
  std::vector<BlockCopy> copies;
  ASSERT_TRUE(first.reserve(64, copies));
  first.commit(64);
  std::vector<std::uint32_t> kept;  // the first two runs, which would stay as they are
  for (std::uint32_t i = 0; i < 64; ++i) kept.push_back(i % 32);
  for (const bool rewrites : {false, true}) {
    SequenceCache other = first.fork(64);
    ASSERT_TRUE(other.reserve(1, copies, 32));
    other.commit(1);
    std::vector<std::vector<RowMove>> moves(2);
    other.keep_rows(0, kept, moves, rewrites);
    for (std::uint32_t head = 0; head < 2; ++head) {
      EXPECT_EQ(moves[head].size(), rewrites ? 32U : 0U);
      for (const BlockId id : other.table(0, head).blocks()) {
        EXPECT_EQ(pool.ref_count(id), rewrites ? 1U : 2U);
      }
      for (const RowMove& move : moves[head]) EXPECT_NE(move.from, move.to);
    }
    other.release_spares();
  }
  first.clear();
  EXPECT_EQ(pool.bytes_in_use(), 0U);
}

/// A cache whose first layer seals and repacks, beside a list of its rows; the second layer, with a
/// window, begins its blocks at other places of the text.
struct Repacked {
  SequenceCache cache;
  std::vector<std::vector<std::uint32_t>> rows;  // [head] positions

  BlockId block(std::size_t head, std::uint32_t row) const {
    const auto h = static_cast<std::uint32_t>(head);
    const auto full = cache.table(0, h).blocks();
    return row / kTokens < full.size() ? full[row / kTokens] : cache.open_block(0, h);
  }
  void grow(std::uint32_t n, Bytes& bytes) {
    const std::uint32_t n_sealed = cache.n_stored(0) / kTokens * kTokens;
    const std::uint32_t begin = cache.n_rows();
    cache.commit(n);
    for (std::uint32_t h = 0; h < rows.size(); ++h) {
      for (std::uint32_t i = 0; i < n; ++i) rows[h].push_back(begin + i);
      for (std::uint32_t i = n_sealed; i < rows[h].size(); ++i) {  // perhaps sealed by now
        bytes.write(block(h, i), i % kTokens, {rows[h][i], h});
      }
    }
  }
  void keep(std::uint32_t n_kept, std::mt19937& random, Bytes& bytes) {
    std::vector<std::uint32_t> kept;
    for (auto& of_head : rows) {
      std::vector<std::uint32_t> order(of_head.size());
      for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
      std::shuffle(order.begin() + kTokens, order.end(), random);  // the raw block stays
      order.resize(n_kept);
      std::sort(order.begin(), order.end());
      kept.insert(kept.end(), order.begin(), order.end());
      for (std::uint32_t& i : order) i = of_head[i];
      of_head = order;
    }
    std::vector<std::vector<RowMove>> moves(rows.size());
    cache.keep_rows(0, kept, moves);
    for (const auto& of_head : moves) {
      for (const RowMove& move : of_head) bytes.move(move);
    }
  }
  void check(const Bytes& bytes) const {
    ASSERT_EQ(cache.n_stored(0), rows[0].size());
    ASSERT_EQ(cache.has_open_block(0), rows[0].size() % kTokens != 0);
    ASSERT_EQ(cache.has_open_block(1), cache.n_rows() % kTokens != 0);
    for (std::uint32_t h = 0; h < rows.size(); ++h) {
      ASSERT_EQ(cache.table(0, h).blocks().size(), rows[h].size() / kTokens);
      for (std::uint32_t i = 0; i < rows[h].size(); ++i) {
        ASSERT_EQ(bytes.read(block(h, i), i % kTokens), (Bytes::Row{rows[h][i], h})) << i;
      }
    }
  }
};

TEST(KeepRows, RowsOfSealedBlocksGoInWholeBlocks) {
  CacheShape shape{kTokens, {{4, 0, kWide, kNarrow}, {2, 20, kWide, kNarrow}}, 1};
  shape.layers[0].max_stored = 112;
  shape.layers[0].repacks = true;
  std::mt19937 random(6);
  for (int round = 0; round < 40; ++round) {
    BlockPool pool = *BlockPool::create({1 << 20, kClasses});
    {
      Bytes bytes;
      std::vector<Repacked> all;
      all.push_back({SequenceCache(shape, pool, 5000), std::vector<std::vector<std::uint32_t>>(4)});
      for (int step = 0; step < 25; ++step) {
        Repacked& one = all[random() % all.size()];
        const std::uint32_t n_room = 112 - one.cache.n_stored(0);
        const auto n_kept = static_cast<std::uint32_t>(2 + random() % 4) * kTokens;
        if (n_room > 0) {
          const auto n = static_cast<std::uint32_t>(1 + random() % n_room);
          std::vector<BlockCopy> copies;
          ASSERT_TRUE(one.cache.reserve(n, copies, n_kept));
          for (const BlockCopy& copy : copies) bytes.copy_block(copy);
          one.grow(n, bytes);
          if (n_kept < one.cache.n_stored(0)) one.keep(n_kept, random, bytes);
          one.cache.release_spares();
        }
        if (all.size() < 4 && random() % 4 == 0) {
          all.push_back({one.cache.fork(one.cache.n_rows()), one.rows});
        }
        for (const Repacked& each : all) each.check(bytes);
        if (HasFatalFailure()) return;
      }
    }
    EXPECT_EQ(pool.bytes_in_use(), 0U);
  }
}

}  // namespace
}  // namespace larder
