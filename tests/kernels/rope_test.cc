#include "kernels/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/reference/rope.h"

namespace larder {
namespace {

RopeTable make_table(std::size_t n_rot, bool adjacent, float amplitude = 1.0F) {
  RopeTable table;
  for (std::size_t i = 0; i < n_rot / 2; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(n_rot);
    table.inv_freq.push_back(static_cast<float>(std::pow(10000.0, exponent)));
  }
  table.amplitude = amplitude;
  table.adjacent = adjacent;
  return table;
}

TEST(Rope, AnglesAreExactToFloatFarOut) {
  const RopeTable table = make_table(128, false);
  const std::vector<std::uint32_t> positions{0, 1, 4097, 32768, 131071, 1000003};
  std::vector<float> cos(positions.size() * 64), sin(cos.size());
  rope_angles(table, positions, cos, sin);
  for (std::size_t row = 0; row < positions.size(); ++row) {
    for (std::size_t i = 0; i < 64; ++i) {
      const long double angle = static_cast<long double>(positions[row]) * table.inv_freq[i];
      ASSERT_NEAR(cos[row * 64 + i], static_cast<double>(std::cos(angle)), 6.1e-8);
      ASSERT_NEAR(sin[row * 64 + i], static_cast<double>(std::sin(angle)), 6.1e-8);
    }
  }
}

TEST(Rope, RotatesLikeTheReference) {
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  for (const bool adjacent : {false, true}) {
    for (const std::size_t n_rot : {2U, 48U, 64U}) {  // 2 and 48: part of the head
      const RopeTable table = make_table(n_rot, adjacent, 1.25F);
      const std::vector<std::uint32_t> positions{0, 5, 6, 40000, 3};
      constexpr std::uint32_t kHeads = 3, kDim = 64;
      constexpr std::size_t kLd = kHeads * kDim + 10;
      std::vector<float> cos(positions.size() * n_rot / 2), sin(cos.size());
      rope_angles(table, positions, cos, sin);
      std::vector<float> x(positions.size() * kLd);
      for (float& v : x) v = normal(rng);
      auto expected = x;
      rope_rotate(table, cos, sin, x.data(), positions.size(), kLd, kHeads, kDim);
      for (std::size_t row = 0; row < positions.size(); ++row) {
        for (std::uint32_t head = 0; head < kHeads; ++head) {
          reference::rope(table, positions[row], expected.data() + row * kLd + head * kDim);
        }
      }
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], expected[i], 1e-6) << i;
    }
  }
}

TEST(Rope, ScoresDependOnTheDistanceAlone) {
  const RopeTable table = make_table(32, false);
  std::mt19937 rng(2);
  std::normal_distribution<float> normal;
  std::vector<float> q(32), k(32);
  for (std::size_t i = 0; i < 32; ++i) {
    q[i] = normal(rng);
    k[i] = normal(rng);
  }
  const auto score = [&](std::uint32_t q_at, std::uint32_t k_at) {
    std::vector<float> rows(q);
    rows.insert(rows.end(), k.begin(), k.end());
    const std::vector<std::uint32_t> positions{q_at, k_at};
    std::vector<float> cos(32), sin(32);
    rope_angles(table, positions, cos, sin);
    rope_rotate(table, cos, sin, rows.data(), 2, 32, 1, 32);
    double sum = 0;
    for (std::size_t i = 0; i < 32; ++i) sum += double{rows[i]} * rows[32 + i];
    return sum;
  };
  EXPECT_NEAR(score(17, 4), score(30013, 30000), 1e-5);
  EXPECT_GT(std::abs(score(17, 4) - score(18, 4)), 1e-3);
}

}  // namespace
}  // namespace larder
