// What queries leave on the rows that they see, against the formulas.
#include "kernels/column_sums.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/cached_rows.h"
#include "kernels/gumbel_noise.h"

namespace larder {
namespace {

constexpr std::uint32_t kHeads = 6, kKvHeads = 2, kGroup = 3, kDim = 16, kBlock = 16, kRows = 75;
constexpr std::uint32_t kPromptEnd = 50, kLayer = 3;

class ColumnSums : public testing::Test {
 protected:
  ColumnSums() {
    for (std::uint32_t h = 0; h < kKvHeads; ++h) {
      for (std::uint32_t row = 0; row < kRows; ++row) {
        cache_.write(h, row, random_floats(kDim, random_).data(),
                     random_floats(kDim, random_).data());
      }
    }
    q_ = random_floats(std::size_t{kRows} * kHeads * kDim, random_);
  }

  /// The queries from `first` on, in steps of at most `step` rows. With `n_near`, those of far
  /// queries behind each head's.
  std::vector<float> sums(const CreditRule& rule, std::uint32_t first, std::uint32_t step,
                          const simd::Table& table, std::uint32_t n_near = 0) {
    ThreadPool threads(2);
    const Compute compute{table, threads};
    const AttentionShape shape{.n_heads = kHeads,
                               .n_kv_heads = kKvHeads,
                               .head_dim = kDim,
                               .block_tokens = kBlock,
                               .scale = 0.25F};
    const std::size_t stride = n_near != 0 ? 2 * kRows : kRows;
    std::vector<float> out(kKvHeads * stride);
    ColumnScratch scratch(2, kRows, kDim);
    for (std::uint32_t begin = first; begin < kRows; begin += step) {
      const std::uint32_t n = std::min(step, kRows - begin);
      const AttentionItem item{0, n, begin, cache_.heads()};
      const ObservedPlace place{begin, kPromptEnd, begin - first, kRows - first, n_near};
      const ObservedRows rows{0, 0, n, out.data(), stride, place, n_near != 0 ? kRows : 0, rule};
      add_column_sums(compute, shape, cache_.layout(), std::span(&item, 1),
                      q_.data() + std::size_t{begin} * kHeads * kDim,
                      {std::span(&rows, 1), scratch, kLayer});
    }
    return out;
  }

  double score(std::uint32_t query, std::uint32_t head, std::uint32_t row) const {
    const auto key = cache_.key(head / kGroup, row);
    double sum = 0;
    for (std::uint32_t c = 0; c < kDim; ++c) {
      sum += double{q_[(std::size_t{query} * kHeads + head) * kDim + c]} * double{key[c]};
    }
    return sum / 4;
  }

  static std::vector<double> softmax(std::vector<double> scores) {
    const double max = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& s : scores) sum += s = std::exp(s - max);
    for (double& s : scores) s /= sum;
    return scores;
  }

  /// Of one query, on each row that it sees.
  std::vector<double> credits(const CreditRule& rule, std::uint32_t query,
                              std::uint32_t head) const {
    std::vector<double> scores;
    for (std::uint32_t row = 0; row <= query; ++row) scores.push_back(score(query, head, row));
    if (rule.credit == Credit::weight || rule.credit == Credit::largest) return softmax(scores);
    if (rule.credit == Credit::unimportant) {
      std::vector<double> out;
      const double mean = 1.0 / (query + 1);
      for (const double p : softmax(scores)) out.push_back(p < mean ? -1 : 0);
      return out;
    }
    std::vector<float> noise(query + 1);
    add_gumbel_noise({rule.seed, kLayer, head, query}, noise);
    const double tau = query <= kPromptEnd ? 1 : 1 + 0.01 * (query - kPromptEnd);
    for (std::uint32_t row = 0; row <= query; ++row) {
      scores[row] = (scores[row] + double{noise[row]}) / tau;
    }
    return softmax(scores);
  }

  void check(const CreditRule& rule, std::uint32_t first) {
    std::vector<double> expected(std::size_t{kKvHeads} * kRows);
    for (std::uint32_t query = first; query < kRows; ++query) {
      const double count = 1 + double{rule.rise} * (query - first) / (kRows - first - 1);
      for (std::uint32_t head = 0; head < kHeads; ++head) {
        const auto of_query = credits(rule, query, head);
        for (std::uint32_t row = 0; row <= query; ++row) {
          double& sum = expected[head / kGroup * kRows + row];
          sum = rule.credit == Credit::largest ? std::max(sum, of_query[row])
                                               : sum + count * of_query[row];
        }
      }
    }
    for (const simd::Table* table : simd::available()) {
      const auto one = sums(rule, first, kRows, *table);
      for (std::size_t i = 0; i < one.size(); ++i) {
        ASSERT_NEAR(double{one[i]}, expected[i], 1e-4) << table->name << ", " << i;
      }
      for (const std::uint32_t step : {1U, 7U}) EXPECT_EQ(sums(rule, first, step, *table), one);
    }
  }

  std::mt19937 random_{40};
  CachedRows cache_{KvFormat::f32, KvFormat::f32, {kBlock, kDim}, kKvHeads, kRows};
  std::vector<float> q_;
};

TEST_F(ColumnSums, EqualTheFormulas) {
  for (const std::uint32_t first : {0U, 11U}) {
    for (const float rise : {0.0F, 0.2F}) {
      check({Credit::weight, rise}, first);
      check({Credit::unimportant, rise}, first);
      check({Credit::noisy, rise, 5}, first);
    }
  }
  check({Credit::largest}, 0);
  check({Credit::largest}, 40);
  EXPECT_NE(sums({Credit::noisy, 0, 1}, 0, 9, simd::best()),
            sums({Credit::noisy, 0, 2}, 0, 9, simd::best()));
}

/// What a query far behind a row adds, is added once more.
TEST_F(ColumnSums, FarQueriesAreSummedApart) {
  constexpr std::uint32_t kNear = 20;
  std::vector<double> expected(std::size_t{kKvHeads} * kRows);
  for (std::uint32_t query = 0; query < kRows; ++query) {
    for (std::uint32_t head = 0; head < kHeads; ++head) {
      const auto of_query = credits({}, query, head);
      for (std::uint32_t row = 0; row + kNear <= query; ++row) {
        expected[head / kGroup * kRows + row] += of_query[row];
      }
    }
  }
  for (const std::uint32_t step : {kRows, 7U}) {
    const auto out = sums({}, 0, step, simd::best(), kNear);
    const auto plain = sums({}, 0, step, simd::best());
    for (std::uint32_t head = 0; head < kKvHeads; ++head) {
      for (std::uint32_t row = 0; row < kRows; ++row) {
        const float* const of_head = out.data() + std::size_t{head} * 2 * kRows;
        ASSERT_EQ(of_head[row], plain[head * kRows + row]);
        ASSERT_NEAR(double{of_head[kRows + row]}, expected[head * kRows + row], 1e-4);
      }
    }
  }
}

TEST(GumbelNoise, HasTheDistributionsMoments) {
  std::vector<float> values(200000);
  add_gumbel_noise({1, 2, 3, 4}, values);
  double mean = 0, square = 0;
  for (const float v : values) {
    mean += double{v} / 200000;
    square += double{v} * double{v} / 200000;
  }
  EXPECT_NEAR(mean, 0.5772, 0.02);                           // Euler's constant
  EXPECT_NEAR(square - mean * mean, 1.6449, 0.03);           // pi^2 / 6
  EXPECT_NEAR(double{gumbel_quantile(2048)}, 0.3665, 1e-3);  // -log(log(2))
  std::vector<float> other(200000);
  add_gumbel_noise({1, 2, 3, 5}, other);
  EXPECT_NE(values, other);
}

}  // namespace
}  // namespace larder
