#include "tensor/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace larder {
namespace {

constexpr DType kAll[] = {DType::f32,  DType::f16,  DType::bf16, DType::q8_0,
                          DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                          DType::q4_k, DType::q5_k, DType::q6_k};

std::vector<std::byte> read_fixture(const std::string& name) {
  std::ifstream file(std::string(LARDER_TEST_DATA) + "/quant/" + name, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  std::vector<std::byte> bytes(text.size());
  if (!bytes.empty()) std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

std::vector<float> gaussian(std::size_t n, unsigned seed, float sigma = 1) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, sigma);
  std::vector<float> x(n);
  for (float& v : x) v = normal(rng);
  return x;
}

std::vector<float> round_trip(DType dtype, const std::vector<float>& x,
                              const float* importance = nullptr) {
  std::vector<std::byte> bytes(row_bytes(dtype, x.size()));
  encode_row(dtype, x.data(), x.size(), bytes.data(), importance);
  std::vector<float> y(x.size());
  decode_row(dtype, bytes.data(), x.size(), y.data());
  return y;
}

double rmse(const std::vector<float>& x, const std::vector<float>& y) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += (x[i] - y[i]) * (x[i] - y[i]);
  return std::sqrt(sum / static_cast<double>(x.size()));
}

class QuantizeTest : public testing::TestWithParam<DType> {};

TEST_P(QuantizeTest, DecodesAsTheGgufPackage) {
  const DType dtype = GetParam();
  if (dtype == DType::f32) return;
  const std::string name(dtype_info(dtype).name);
  const auto blocks = read_fixture(name + ".blocks"), floats = read_fixture(name + ".f32");
  ASSERT_FALSE(blocks.empty());
  std::vector<float> expected(floats.size() / sizeof(float)), got(expected.size());
  std::memcpy(expected.data(), floats.data(), floats.size());
  ASSERT_EQ(row_bytes(dtype, expected.size()), blocks.size());
  decode_row(dtype, blocks.data(), expected.size(), got.data());
  for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_EQ(got[i], expected[i]) << name << i;
}

TEST_P(QuantizeTest, ErrorOnGaussianRows) {
  // About 1 % above what the encoders reach.
  const auto bound = [](DType dtype) {
    switch (dtype) {
      case DType::f32:
        return 1e-9;
      case DType::f16:
        return 2.2e-4;
      case DType::bf16:
        return 1.75e-3;
      case DType::q8_0:
        return 5.04e-3;
      case DType::q6_k:
        return 1.745e-2;
      case DType::q5_k:
        return 3.49e-2;
      case DType::q5_1:
        return 3.40e-2;
      case DType::q5_0:
        return 4.07e-2;
      case DType::q4_k:
        return 7.06e-2;
      case DType::q4_1:
        return 7.03e-2;
      case DType::q4_0:
        return 8.18e-2;
    }
    return 0.0;
  };
  const auto x = gaussian(256 * 128, 5);
  EXPECT_LT(rmse(x, round_trip(GetParam(), x)), bound(GetParam()));
}

TEST_P(QuantizeTest, ScalesWithTheInput) {
  // A power of two moves only exponents, as long as the f16 scales stay normal numbers.
  const auto x = gaussian(512, 6);
  auto scaled = x;
  for (float& v : scaled) v *= 16;
  const auto y = round_trip(GetParam(), x), z = round_trip(GetParam(), scaled);
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(z[i], 16 * y[i], 1e-3) << i;
}

TEST_P(QuantizeTest, ExactWhereTheFormatCan) {
  std::vector<float> x(256, 0);
  EXPECT_EQ(round_trip(GetParam(), x), x);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 8) - 4;
  const auto y = round_trip(GetParam(), x);
  // Sub-scales of the K formats are products of two rounded numbers: near, not equal.
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(y[i], x[i], 0.08) << i;
}

TEST_P(QuantizeTest, SecondRoundTripChangesLittle) {
  const auto x = gaussian(2048, 7);
  const auto y = round_trip(GetParam(), x), z = round_trip(GetParam(), y);
  EXPECT_LE(rmse(y, z), 0.3 * rmse(x, y) + 1e-12);
}

TEST_P(QuantizeTest, BlocksAreIndependent) {
  const DType dtype = GetParam();
  const auto x = gaussian(1024, 8);
  const std::size_t n = dtype_info(dtype).block_elems, size = dtype_info(dtype).block_bytes;
  std::vector<std::byte> whole(row_bytes(dtype, x.size())), piece(size);
  encode_row(dtype, x.data(), x.size(), whole.data());
  for (std::size_t i = 0; i < x.size() / n; ++i) {
    encode_row(dtype, x.data() + i * n, n, piece.data());
    ASSERT_EQ(std::memcmp(piece.data(), whole.data() + i * size, size), 0) << i;
  }
}

TEST_P(QuantizeTest, BlockFormatsNeverStoreWhatIsNotFinite) {
  const DType dtype = GetParam();
  if (dtype_info(dtype).block_elems == 1) return;
  const float inf = std::numeric_limits<float>::infinity();
  const float odd[] = {std::nanf(""), inf,     -inf,  std::numeric_limits<float>::max(),
                       1e-45F,        -1e-40F, 65520, -3e38F,
                       1e30F,         6e-8F};
  std::mt19937 rng(9);
  for (int round = 0; round < 200; ++round) {
    auto x = gaussian(256, static_cast<unsigned>(round));
    const auto n_odd = rng() % 256;
    for (unsigned i = 0; i < n_odd; ++i) x[rng() % 256] = odd[rng() % std::size(odd)];
    for (const float y : round_trip(dtype, x)) ASSERT_TRUE(std::isfinite(y)) << round;
  }
}

TEST_P(QuantizeTest, FloatFormatsKeepWhatIsNotFinite) {
  const DType dtype = GetParam();
  if (dtype_info(dtype).block_elems != 1) return;
  const float inf = std::numeric_limits<float>::infinity();
  const auto y = round_trip(dtype, {inf, -inf, std::nanf("")});
  EXPECT_EQ(y[0], inf);
  EXPECT_EQ(y[1], -inf);
  EXPECT_TRUE(std::isnan(y[2]));
}

TEST_P(QuantizeTest, ImportanceMovesTheErrorAway) {
  const DType dtype = GetParam();
  if (dtype_info(dtype).block_elems == 1) return;
  const auto x = gaussian(256 * 32, 10);
  std::vector<float> importance(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) importance[i] = i % 4 == 0 ? 100.0F : 1.0F;
  const auto weighted = [&](const std::vector<float>& y) {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      sum += importance[i] * (x[i] - y[i]) * (x[i] - y[i]);
    }
    return sum;
  };
  EXPECT_LT(weighted(round_trip(dtype, x, importance.data())), weighted(round_trip(dtype, x)));
}

TEST_P(QuantizeTest, UselessImportanceIsHarmless) {
  const DType dtype = GetParam();
  const auto x = gaussian(512, 11);
  std::vector<float> importance(x.size(), 0);
  for (const float w : {0.0F, -1.0F, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    std::fill(importance.begin(), importance.begin() + 256, w);
    for (const float y : round_trip(dtype, x, importance.data())) ASSERT_TRUE(std::isfinite(y));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, QuantizeTest, testing::ValuesIn(kAll),
                         [](const auto& test) { return std::string(dtype_info(test.param).name); });

}  // namespace
}  // namespace larder
