#include "tensor/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace larder {
namespace {

/// An f16 from the definition: sign, exponent with bias 15, ten bits of fraction.
double f16_value(unsigned bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const double fraction = (bits & 1023) / 1024.0;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1 + fraction, exponent - 15);
  return bits >> 15 ? -magnitude : magnitude;
}

TEST(Half, EveryFiniteF16DecodesAndComesBack) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const auto h = static_cast<std::uint16_t>(bits);
    if ((bits & 0x7c00U) == 0x7c00U) continue;
    ASSERT_EQ(f16_to_f32(h), f16_value(bits)) << bits;
    ASSERT_EQ(f32_to_f16(f16_to_f32(h)), h) << bits;
  }
}

TEST(Half, NearestF16WithTiesToEven) {
  // Between two neighbours: below, at and above the middle.
  for (unsigned bits = 0; bits < 0x7bff; ++bits) {
    const double low = f16_value(bits), high = f16_value(bits + 1);
    const auto middle = static_cast<float>((low + high) / 2);
    const auto even = static_cast<std::uint16_t>(bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(f32_to_f16(middle), even) << bits;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0F)), bits) << bits;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 1e9F)), bits + 1) << bits;
  }
}

TEST(Half, SpecialValues) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(f32_to_f16(inf), 0x7c00);
  EXPECT_EQ(f32_to_f16(-inf), 0xfc00);
  EXPECT_EQ(f16_to_f32(0x7c00), inf);
  EXPECT_EQ(f32_to_f16(65519.9F), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(f32_to_f16(-0.0F), 0x8000);
  EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(std::nanf("")))));
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::nanf("1")))));
  EXPECT_EQ(bf16_to_f32(f32_to_bf16(inf)), inf);
  EXPECT_EQ(bf16_to_f32(f32_to_bf16(std::numeric_limits<float>::max())), inf);
}

TEST(Half, Bf16IsTheNearest) {
  std::mt19937 rng(3);
  for (int i = 0; i < 20000; ++i) {
    const float x =
        std::ldexp(static_cast<float>(rng()) - 0x1p31F, static_cast<int>(rng() % 80) - 70);
    const float y = bf16_to_f32(f32_to_bf16(x));
    ASSERT_LE(std::abs(y - x), std::abs(x) * 0x1p-8F) << x;
  }
  EXPECT_EQ(f32_to_bf16(1.00390625F), 0x3f80);  // a tie, to even
  EXPECT_EQ(f32_to_bf16(1.01171875F), 0x3f82);
}

}  // namespace
}  // namespace larder
