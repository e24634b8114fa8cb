#include "kernels/repack_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "kernels/sealed_rows.h"
#include "tensor/half.h"

namespace larder {
namespace {

constexpr std::uint32_t kHeads = 3, kRows = 107, kTokens = 32, kDim = 64;
constexpr std::uint32_t kFull = kRows / kTokens * kTokens;
const BlockShape kShape{kTokens, kDim};

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
  SealedRows rows({GetParam().first, GetParam().second, kShape, kHeads}, compute, keys, values);
  // The same, the last block filled up and sealed.
  keys.resize(std::size_t{kFull + kTokens} * kHeads * kDim);
  values.resize(keys.size());
  const SealedRows all({GetParam().first, GetParam().second, kShape, kHeads}, compute, keys,
                       values);

  std::vector<std::vector<std::uint32_t>> kept(kHeads);
  std::vector<std::vector<RowMove>> moves(kHeads);
  for (std::uint32_t h = 0; h < kHeads; ++h) {
    for (std::uint32_t row = 0; row < kRows; ++row) kept[h].push_back(row);
    std::shuffle(kept[h].begin() + 5, kept[h].end() - 3, random);  // the newest stay
    kept[h].erase(kept[h].begin() + 61, kept[h].end() - 3);
    std::sort(kept[h].begin(), kept[h].end());
    ASSERT_EQ(kept[h].size(), 64U);
    for (std::uint32_t i = 0; i < 64; ++i) {
      const std::uint32_t row = kept[h][i];
      if (row == i) continue;
      moves[h].push_back({rows.block(h, row), rows.block(h, i), row % kTokens, i % kTokens});
    }
  }
  repack_rows(compute, rows.layout(), kShape, moves, rows.open(), kRows - kFull);
  for (std::uint32_t h = 0; h < kHeads; ++h) {
    for (std::uint32_t i = 0; i < 64; ++i) {
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
  const SealedRows rows({KvFormat::rot2, KvFormat::int8, kShape, kHeads}, compute, keys, keys);
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
  EXPECT_FALSE(moves(KvFormat::bf16, KvFormat::kivi8));
}

}  // namespace
}  // namespace larder
