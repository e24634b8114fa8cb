// What queries leave on sealed rows, against the softmax over what these decode to.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/column_sums.h"
#include "kernels/sealed_rows.h"
#include "tensor/half.h"

namespace larder {
namespace {

constexpr std::uint32_t kHeads = 4, kKvHeads = 2, kGroup = 2, kRows = 107, kTokens = 32, kDim = 64;

class SealedColumnSums : public testing::TestWithParam<std::pair<KvFormat, KvFormat>> {};
INSTANTIATE_TEST_SUITE_P(Formats, SealedColumnSums,
                         testing::Values(std::pair{KvFormat::int8, KvFormat::rot4},
                                         std::pair{KvFormat::rot3, KvFormat::bf16},
                                         std::pair{KvFormat::rot2, KvFormat::int4},
                                         std::pair{KvFormat::q4_0, KvFormat::fp8},
                                         std::pair{KvFormat::q8_0, KvFormat::q8_0},
                                         std::pair{KvFormat::kivi4, KvFormat::kivi2},
                                         std::pair{KvFormat::kivi8, KvFormat::kivi8},
                                         std::pair{KvFormat::f32, KvFormat::int8}));

TEST_P(SealedColumnSums, AreThoseOfDecodedRowsButOfTheQuerysOwnBlock) {
  std::mt19937 random(19);
  std::normal_distribution<float> normal;
  ThreadPool threads(2);
  std::vector<float> keys(std::size_t{kRows} * kKvHeads * kDim);
  std::vector<float> q(std::size_t{kRows} * kHeads * kDim);
  for (float& x : keys) x = normal(random);
  for (float& x : q) x = normal(random);
  for (const simd::Table* table : simd::available()) {
    const Compute compute{*table, threads};
    const SealedRows rows({GetParam().first, GetParam().second, {kTokens, kDim}, kKvHeads}, compute,
                          keys, keys);
    const AttentionShape shape{.n_heads = kHeads,
                               .n_kv_heads = kKvHeads,
                               .head_dim = kDim,
                               .block_tokens = kTokens,
                               .scale = 0.125F};
    const bool is_raw = kv_codec(GetParam().first).is_raw();
    const auto key = [&](std::uint32_t head, std::uint32_t row, std::uint32_t query) {
      if (row / kTokens != query / kTokens) return rows.key(head, row);
      std::vector<float> raw(kDim);
      for (std::uint32_t c = 0; c < kDim; ++c) {
        const float x = keys[(std::size_t{row} * kKvHeads + head) * kDim + c];
        raw[c] = is_raw ? x : bf16_to_f32(f32_to_bf16(x));
      }
      return raw;
    };
    constexpr std::uint32_t kFirst = 61;  // queries from here on count
    std::vector<double> expected(std::size_t{kKvHeads} * kRows);
    for (std::uint32_t query = kFirst; query < kRows; ++query) {
      for (std::uint32_t head = 0; head < kHeads; ++head) {
        std::vector<double> weights;
        double sum = 0;
        for (std::uint32_t row = 0; row <= query; ++row) {
          const auto k = key(head / kGroup, row, query);
          double score = 0;
          for (std::uint32_t c = 0; c < kDim; ++c) {
            score += double{k[c]} * double{q[(std::size_t{query} * kHeads + head) * kDim + c]};
          }
          weights.push_back(std::exp(score / 8));
          sum += weights.back();
        }
        for (std::uint32_t row = 0; row <= query; ++row) {
          expected[head / kGroup * kRows + row] += weights[row] / sum;
        }
      }
    }
    std::vector<float> sums(std::size_t{kKvHeads} * kRows);
    ColumnScratch scratch(2, kRows, kDim, true);
    const AttentionItem item = rows.item();
    const ObservedRows observed{0, kFirst, kRows - kFirst, sums.data(), kRows, {}};
    add_column_sums(compute, shape, rows.layout(), std::span(&item, 1), q.data(),
                    {std::span(&observed, 1), scratch});
    for (std::size_t i = 0; i < sums.size(); ++i) {  // queries may be rounded to bf16
      ASSERT_NEAR(double{sums[i]}, expected[i], 0.02 * expected[i] + 1e-4) << table->name << i;
    }
  }
}

}  // namespace
}  // namespace larder
