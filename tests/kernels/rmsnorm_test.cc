#include "kernels/rmsnorm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/reference/rmsnorm.h"

namespace larder {
namespace {

TEST(RmsNorm, AgreesWithTheReferenceInAllSets) {
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  for (const simd::Table* table : simd::available()) {
    for (const std::size_t n : {1U, 7U, 64U, 577U, 4096U}) {
      for (const float size : {1e-4F, 1.0F, 1e4F}) {
        std::vector<float> x(n), weight(n), out(n), expected(n);
        for (std::size_t i = 0; i < n; ++i) {
          x[i] = normal(rng) * size;
          weight[i] = normal(rng);
        }
        rmsnorm(*table, x.data(), weight.data(), 1e-5F, n, out.data());
        reference::rmsnorm(x.data(), weight.data(), 1e-5F, n, expected.data());
        for (std::size_t i = 0; i < n; ++i) {
          ASSERT_NEAR(out[i], expected[i], 1e-6 * std::abs(expected[i]) + 1e-30) << table->name;
        }
        rmsnorm(*table, x.data(), weight.data(), 1e-5F, n, x.data());
        EXPECT_EQ(x, out) << "in place";
      }
    }
  }
}

TEST(RmsNorm, ZerosStayZeros) {
  std::vector<float> x(32), weight(32, 2.0F);
  rmsnorm(simd::best(), x.data(), weight.data(), 1e-6F, 32, x.data());
  EXPECT_EQ(x, std::vector<float>(32));
}

}  // namespace
}  // namespace larder
