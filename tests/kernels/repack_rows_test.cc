#include "kernels/repack_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/key_scores.h"
#include "tensor/half.h"

namespace larder {
namespace {

constexpr std::uint32_t kHeads = 3, kRows = 75, kTokens = 16, kDim = 64;
constexpr std::uint32_t kFull = kRows / kTokens * kTokens;
const BlockShape kShape{kTokens, kDim};

/// Rows of one layer: full blocks are sealed, the last rows stand in open ones. Heads in turns.
class SealedRows {
 public:
  SealedRows(KvFormat k, KvFormat v, const Compute& compute, const std::vector<float>& keys,
             const std::vector<float>& values)
      : layout_(make_kv_layout(kv_codec(k), kv_codec(v), kShape)) {
    const auto n_rows = static_cast<std::uint32_t>(keys.size() / kHeads / kDim);
    const std::size_t bytes = std::max(kv_block_bytes(layout_, kShape), layout_.open_bytes);
    const std::uint32_t n_blocks = n_rows / kTokens;
    pool_ = Buffer<std::byte>(bytes * (n_blocks + 1) * kHeads);
    std::memset(pool_.data(), 0xff, pool_.size());
    layout_.pool = pool_.data();
    std::uint32_t next = 0;
    const auto take = [&] {
      return BlockId{static_cast<std::uint32_t>(next++ * bytes / kBlockQuantum)};
    };
    tables_.resize(kHeads);
    for (auto& table : tables_) {
      for (std::uint32_t b = 0; b < n_blocks; ++b) table.push_back(take());
      open_.push_back(take());
    }
    for (std::size_t h = 0; h < kHeads; ++h) heads_.push_back({tables_[h], 0, open_[h]});
    const AttentionItem item{0, n_rows, 0, heads_};
    fresh_ = Buffer<std::byte>(n_fresh_blocks(item, kTokens) * kHeads * layout_.open_bytes);
    layout_.fresh = fresh_.data();
    append_rows(compute, kHeads, kShape, layout_, std::span(&item, 1),
                {keys.data(), values.data(), kHeads * kDim, kHeads * kDim});
  }
  const KvLayout& layout() const { return layout_; }
  std::span<const BlockId> open() const { return open_; }
  BlockId block(std::uint32_t head, std::uint32_t row) const {
    return row / kTokens < tables_[head].size() ? tables_[head][row / kTokens] : open_[head];
  }
  std::vector<float> key(std::uint32_t head, std::uint32_t row) const {
    std::vector<float> out(kDim);
    read_key({layout_, kShape, heads_, kRows}, head, row, out.data());
    return out;
  }
  std::vector<float> value(std::uint32_t head, std::uint32_t row) const {
    std::vector<float> out(kDim);
    read_value({layout_, kShape, heads_, kRows}, head, row, out.data());
    return out;
  }

 private:
  KvLayout layout_;
  Buffer<std::byte> pool_, fresh_;
  std::vector<std::vector<BlockId>> tables_;
  std::vector<BlockId> open_;
  std::vector<KvRows> heads_;
};

class RepackRows : public testing::TestWithParam<std::pair<KvFormat, KvFormat>> {};
INSTANTIATE_TEST_SUITE_P(Formats, RepackRows,
                         testing::Values(std::pair{KvFormat::int8, KvFormat::rot8},
                                         std::pair{KvFormat::rot5, KvFormat::int8},
                                         std::pair{KvFormat::rot4, KvFormat::int4},
                                         std::pair{KvFormat::rot3, KvFormat::rot5},
                                         std::pair{KvFormat::rot2, KvFormat::rot3},
                                         std::pair{KvFormat::fp8, KvFormat::rot2},
                                         std::pair{KvFormat::int4, KvFormat::rot4},
                                         std::pair{KvFormat::q8_0, KvFormat::q4_0},
                                         std::pair{KvFormat::q4_0, KvFormat::fp8},
                                         std::pair{KvFormat::f32, KvFormat::q8_0},
                                         std::pair{KvFormat::rot4, KvFormat::f16}));

TEST_P(RepackRows, SealedRowsKeepTheirCodesAndOpenOnesGetTheirs) {
  std::mt19937 random(17);
  std::normal_distribution<float> normal;
  ThreadPool threads(2);
  const Compute compute{simd::best(), threads};
  std::vector<float> keys(std::size_t{kRows} * kHeads * kDim), values(keys.size());
  for (float& x : keys) x = normal(random);
  for (float& x : values) x = normal(random);
  SealedRows rows(GetParam().first, GetParam().second, compute, keys, values);
  // The same, the last block filled up and sealed.
  keys.resize(std::size_t{kFull + kTokens} * kHeads * kDim);
  values.resize(keys.size());
  const SealedRows all(GetParam().first, GetParam().second, compute, keys, values);

  std::vector<std::vector<std::uint32_t>> kept(kHeads);
  std::vector<std::vector<RowMove>> moves(kHeads);
  for (std::uint32_t h = 0; h < kHeads; ++h) {
    for (std::uint32_t row = 0; row < kRows; ++row) kept[h].push_back(row);
    std::shuffle(kept[h].begin() + 5, kept[h].end() - 3, random);  // the newest stay
    kept[h].erase(kept[h].begin() + 45, kept[h].end() - 3);
    std::sort(kept[h].begin(), kept[h].end());
    ASSERT_EQ(kept[h].size(), 48U);
    for (std::uint32_t i = 0; i < 48; ++i) {
      const std::uint32_t row = kept[h][i];
      if (row == i) continue;
      moves[h].push_back({rows.block(h, row), rows.block(h, i), row % kTokens, i % kTokens});
    }
  }
  repack_rows(compute, rows.layout(), kShape, moves, rows.open(), kRows - kFull);
  for (std::uint32_t h = 0; h < kHeads; ++h) {
    for (std::uint32_t i = 0; i < 48; ++i) {
      ASSERT_EQ(rows.key(h, i), all.key(h, kept[h][i])) << "head " << h << ", row " << i;
      ASSERT_EQ(rows.value(h, i), all.value(h, kept[h][i])) << "head " << h << ", row " << i;
    }
  }
}

TEST(KeyRows, RowsOfAnOpenBlockAreRaw) {
  std::mt19937 random(18);
  std::normal_distribution<float> normal;
  ThreadPool threads(1);
  const Compute compute{simd::best(), threads};
  std::vector<float> keys(std::size_t{kRows} * kHeads * kDim);
  for (float& x : keys) x = normal(random);
  const SealedRows rows(KvFormat::rot2, KvFormat::int8, compute, keys, keys);
  for (const std::uint32_t row : {kFull, kRows - 1}) {
    for (std::uint32_t c = 0; c < kDim; ++c) {
      const float x = keys[(std::size_t{row} * kHeads + 1) * kDim + c];
      ASSERT_EQ(rows.key(1, row)[c], bf16_to_f32(f32_to_bf16(x)));
      ASSERT_EQ(rows.value(1, row)[c], bf16_to_f32(f32_to_bf16(x)));
    }
  }
  EXPECT_NE(rows.key(1, kFull - 1)[0], keys[(std::size_t{kFull - 1} * kHeads + 1) * kDim]);
}

TEST(RepackRows, FormatsThatShareScalesCannot) {
  const auto moves = [](KvFormat k, KvFormat v) {
    return moves_sealed_rows(make_kv_layout(kv_codec(k), kv_codec(v), kShape));
  };
  EXPECT_TRUE(moves(KvFormat::rot4, KvFormat::q4_0));
  EXPECT_TRUE(moves(KvFormat::bf16, KvFormat::int8));
  EXPECT_FALSE(moves(KvFormat::kivi4, KvFormat::int8));
}

}  // namespace
}  // namespace larder
