#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "simd/simd.h"
#include "tensor/half.h"

namespace larder::simd {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_floats(std::mt19937& rng, std::size_t n, float size = 1.0F) {
  std::normal_distribution<float> normal(0.0F, size);
  std::vector<float> v(n);
  for (float& f : v) f = normal(rng);
  return v;
}

class VectorTest : public testing::TestWithParam<const Table*> {
 protected:
  const Table& table() const { return *GetParam(); }
};

TEST_P(VectorTest, SumsOfAllLengths) {
  std::mt19937 rng(1);
  for (std::size_t n = 1; n < 200; ++n) {
    const auto a = random_floats(rng, n), b = random_floats(rng, n);
    double dot = 0, magnitude = 0, squares = 0;
    for (std::size_t i = 0; i < n; ++i) {
      dot += double{a[i]} * b[i];
      magnitude += std::abs(double{a[i]} * b[i]);
      squares += double{a[i]} * a[i];
    }
    ASSERT_NEAR(table().dot(a.data(), b.data(), n), dot, 1e-6 * magnitude) << n;
    ASSERT_NEAR(table().sum_squares(a.data(), n), squares, 1e-6 * squares) << n;
    ASSERT_EQ(table().max(a.data(), n), *std::max_element(a.begin(), a.end())) << n;
  }
  EXPECT_EQ(table().dot(nullptr, nullptr, 0), 0.0F);
  const std::vector<float> infinite(19, -kInf);
  EXPECT_EQ(table().max(infinite.data(), infinite.size()), -kInf);
}

TEST_P(VectorTest, AxpyScaleAndMultiplyTouchTheirElementsOnly) {
  std::mt19937 rng(2);
  for (std::size_t n = 0; n < 70; ++n) {
    const auto x = random_floats(rng, n + 1);
    auto y = random_floats(rng, n + 1);
    const auto before = y;
    table().axpy(0.75F, x.data(), y.data(), n);
    for (std::size_t i = 0; i < n; ++i) {
      const double size = std::abs(double{before[i]}) + std::abs(0.75 * x[i]);
      ASSERT_NEAR(y[i], double{before[i]} + 0.75 * x[i], 1.2e-7 * size) << n;
    }
    ASSERT_EQ(y[n], before[n]);
    auto scaled = x;
    table().scale(-3.0F, scaled.data(), n);
    for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(scaled[i], -3.0F * x[i]);
    ASSERT_EQ(scaled[n], x[n]);
    auto product = before;
    table().multiply(x.data(), product.data(), n);
    for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(product[i], x[i] * before[i]);
    ASSERT_EQ(product[n], before[n]);
  }
}

TEST_P(VectorTest, ExpWithinThreeUlpOverItsRange) {
  std::vector<float> x;
  for (float v = -110.0F; v < 95.0F; v += 0.00731F) x.push_back(v);
  auto out = x;
  const float sum = table().exp_shift_sum(out.data(), 2.0F, out.size(), {});
  double expected_sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = std::exp(double{x[i] - 2.0F});
    expected_sum += static_cast<float>(expected);
    if (expected > std::numeric_limits<float>::max()) {
      ASSERT_EQ(out[i], kInf) << x[i];
    } else {
      ASSERT_NEAR(out[i], expected, 3.6e-7 * expected + 3e-45) << x[i];
    }
  }
  ASSERT_GT(expected_sum, std::numeric_limits<float>::max());
  EXPECT_EQ(sum, kInf);
}

TEST_P(VectorTest, ExpOfSpecialValuesAndTails) {
  std::mt19937 rng(3);
  for (std::size_t n = 1; n < 40; ++n) {
    auto x = random_floats(rng, n + 1, 3.0F);
    if (n > 2) x[n / 2] = -kInf;
    auto out = x;
    const float sum = table().exp_shift_sum(out.data(), 4.0F, n, {});
    double expected = 0;
    for (std::size_t i = 0; i < n; ++i) expected += std::exp(double{x[i]} - 4.0);
    ASSERT_NEAR(sum, expected, 1e-6 * expected) << n;
    if (n > 2) {
      ASSERT_EQ(out[n / 2], 0.0F);
    }
    ASSERT_EQ(out[n], x[n]);
    // What is fetched meanwhile, more lines than there are vectors, changes nothing.
    std::vector<std::byte> soon(1000);
    auto again = x;
    ASSERT_EQ(table().exp_shift_sum(again.data(), 4.0F, n, {soon.data(), soon.size()}), sum);
    ASSERT_EQ(again, out) << n;
  }
  float special[] = {-kInf, kInf, kNan, 0.0F, -1e30F, 1e30F};
  table().exp_shift_sum(special, 0.0F, 6, {});
  EXPECT_EQ(special[0], 0.0F);
  EXPECT_EQ(special[1], kInf);
  EXPECT_TRUE(std::isnan(special[2]));
  EXPECT_EQ(special[3], 1.0F);
  EXPECT_EQ(special[4], 0.0F);
  EXPECT_EQ(special[5], kInf);
}

TEST_P(VectorTest, ActivationsOfAllLengthsAndSizes) {
  std::mt19937 rng(4);
  for (std::size_t n = 1; n < 300; ++n) {
    const auto gate = random_floats(rng, n, n % 3 == 0 ? 30.0F : 2.0F);
    const auto up = random_floats(rng, n);
    std::vector<float> silu(n + 1, 7.0F), gelu(n + 1, 7.0F);
    table().silu_mul(gate.data(), up.data(), silu.data(), n);
    table().gelu_tanh_mul(gate.data(), up.data(), gelu.data(), n);
    for (std::size_t i = 0; i < n; ++i) {
      const double g = gate[i], u = up[i];
      const double silu_expected = g / (1.0 + std::exp(-g)) * u;
      const double t = std::tanh(std::sqrt(2.0 / 3.14159265358979) * (g + 0.044715 * g * g * g));
      const double gelu_expected = 0.5 * g * (1.0 + t) * u;
      const double size = std::abs(g * u);
      ASSERT_NEAR(silu[i], silu_expected, 2e-6 * std::abs(silu_expected) + 1e-35) << g;
      ASSERT_NEAR(gelu[i], gelu_expected, 2e-6 * std::abs(gelu_expected) + 1e-7 * size) << g;
    }
    ASSERT_EQ(silu[n], 7.0F);
    ASSERT_EQ(gelu[n], 7.0F);
  }
}

TEST_P(VectorTest, TanhCapOverItsRange) {
  std::vector<float> x;
  for (float v = -400.0F; v <= 400.0F; v += 0.1313F) x.push_back(v);
  for (const float tiny : {0.0F, 1e-6F, -1e-20F, 1e-30F}) x.push_back(tiny);
  for (const float cap : {30.0F, 50.0F}) {
    auto out = x;
    table().tanh_cap(out.data(), cap, out.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double expected = cap * std::tanh(double{x[i]} / cap);
      ASSERT_NEAR(out[i], expected, 5e-7 * std::abs(expected)) << x[i];
    }
  }
  float special[] = {kInf, -kInf, kNan};
  table().tanh_cap(special, 30.0F, 3);
  EXPECT_EQ(special[0], 30.0F);
  EXPECT_EQ(special[1], -30.0F);
  EXPECT_TRUE(std::isnan(special[2]));
}

/// To nearest, ties to even, as f32_to_bf16. Denormals are left out: AVX-512's instruction takes
/// them for zero.
TEST_P(VectorTest, RoundsToBf16AsTheDefinitionSays) {
  std::mt19937 rng(11);
  std::uniform_int_distribution<std::uint32_t> bits;
  for (std::size_t n_cols = 1; n_cols < 70; ++n_cols) {
    const std::size_t n_rows = 3, stride = n_cols + n_cols % 2;
    std::vector<float> x(n_rows * n_cols);
    for (float& f : x) {
      do {
        f = std::bit_cast<float>(bits(rng));
      } while (std::fpclassify(f) == FP_SUBNORMAL);
    }
    x[0] = std::bit_cast<float>(0x3f808000U);      // a tie that stays even
    x.back() = std::bit_cast<float>(0x3f818000U);  // and one that rounds up to even
    if (n_cols > 4) x[1] = kNan, x[2] = -kInf, x[3] = std::numeric_limits<float>::max();
    std::vector<std::uint16_t> rounded(n_rows * stride + 1, 0xabcd);
    table().round_bf16(x.data(), n_rows, n_cols, {rounded.data(), stride});
    for (std::size_t t = 0; t < n_rows; ++t) {
      for (std::size_t c = 0; c < stride; ++c) {
        const std::uint16_t expected = c < n_cols ? f32_to_bf16(x[t * n_cols + c]) : 0;
        ASSERT_EQ(rounded[t * stride + c], expected) << n_cols << ' ' << t << ' ' << c;
      }
    }
    ASSERT_EQ(rounded.back(), 0xabcd) << n_cols;
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, VectorTest,
                         testing::ValuesIn(available().begin(), available().end()),
                         [](const auto& set) { return std::string(set.param->name); });

}  // namespace
}  // namespace larder::simd
