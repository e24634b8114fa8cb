// Products of queries with the bounds of blocks, against the formula.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "simd/simd.h"
#include "tensor/half.h"

namespace larder::simd {
namespace {

struct Rows {
  std::vector<float> values;
  std::vector<std::byte> bytes;  // as bf16
};

Rows make_rows(std::size_t n, std::mt19937& random) {
  std::normal_distribution<float> normal;
  Rows rows{std::vector<float>(n), std::vector<std::byte>(2 * n)};
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint16_t half = f32_to_bf16(normal(random));
    std::memcpy(rows.bytes.data() + 2 * i, &half, 2);
    rows.values[i] = bf16_to_f32(half);
  }
  return rows;
}

TEST(BoundScores, AreTheMostThatAnyQueryGets) {
  std::mt19937 random(41);
  std::normal_distribution<float> normal;
  for (const Table* table : available()) {
    SCOPED_TRACE(table->name);
    for (const std::size_t n : {4U, 12U, 32U, 36U, 128U, 192U, 260U}) {
      for (const std::size_t n_q : {1U, 2U, 3U, 4U, 5U, 6U, 9U}) {
        const std::size_t n_blocks = random() % 40;
        std::vector<float> q(n_q * n);
        for (float& x : q) x = normal(random);
        std::vector<Rows> rows;
        std::vector<const std::byte*> parts;
        for (std::size_t b = 0; b < n_blocks; ++b) rows.push_back(make_rows(n, random));
        for (const Rows& r : rows) parts.push_back(r.bytes.data());
        std::vector<float> out(n_blocks + 1, 77.0F);
        table->bound_scores(q.data(), n_q, {parts.data(), n_blocks, 0}, n, out.data());
        for (std::size_t b = 0; b < n_blocks; ++b) {
          double most = -1e30;
          for (std::size_t i = 0; i < n_q; ++i) {
            double sum = 0;
            for (std::size_t c = 0; c < n; ++c) {
              sum += double{q[i * n + c]} * double{rows[b].values[c]};
            }
            most = std::max(most, sum);
          }
          ASSERT_NEAR(double{out[b]}, most, 1e-4) << n << " x " << n_q << ", block " << b;
        }
        EXPECT_EQ(out[n_blocks], 77.0F);
      }
    }
  }
}

TEST(BoundScores, DependOnTheirTwoRowsAlone) {
  std::mt19937 random(42);
  std::normal_distribution<float> normal;
  constexpr std::size_t kN = 44, kQueries = 7, kBlocks = 11;
  for (const Table* table : available()) {
    SCOPED_TRACE(table->name);
    std::vector<float> q(kQueries * kN);
    for (float& x : q) x = normal(random);
    std::vector<Rows> rows;
    std::vector<const std::byte*> parts;
    for (std::size_t b = 0; b < kBlocks; ++b) rows.push_back(make_rows(kN, random));
    for (const Rows& r : rows) parts.push_back(r.bytes.data());
    std::vector<float> together(kBlocks), alone(kBlocks);
    table->bound_scores(q.data(), kQueries, {parts.data(), kBlocks, 0}, kN, together.data());
    for (std::size_t b = 0; b < kBlocks; ++b) {
      for (std::size_t i = 0; i < kQueries; ++i) {
        float one = 0;
        table->bound_scores(q.data() + i * kN, 1, {parts.data() + b, 1, 0}, kN, &one);
        alone[b] = i == 0 ? one : std::max(alone[b], one);
      }
    }
    EXPECT_EQ(together, alone);
  }
}

}  // namespace
}  // namespace larder::simd
