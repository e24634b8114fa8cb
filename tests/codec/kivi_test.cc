// What the formats with a scale and a zero have of their own; what they share with the others is in
// sealed_codec_test.cc.
#include "codec/kivi.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "codec/sealed_parts.h"

namespace larder {
namespace {

TEST(Kivi, EverySetWritesTheSameBytesAndClampsWhatIsNoNumber) {
  const BlockShape shape{32, 64};
  for (const KvCodec* codec : {&kivi8_codec(), &kivi4_codec(), &kivi2_codec()}) {
    for (const simd::Table* table : simd::available()) {
      for (const Side side : {Side::k, Side::v}) {
        for (const float mean : {-40.0F, 0.0F, 40.0F}) {
          SCOPED_TRACE(testing::Message() << codec->name << ' ' << table->name << ' ' << mean
                                          << (side == Side::k ? " K" : " V"));
          std::mt19937 rng(9);
          Rows rows = normal_rows(rng, shape);
          for (auto& row : rows) {
            for (float& x : row) x += mean;
          }
          rows[7][5] = std::nanf("");
          const auto part = seal(*codec, side, *table, shape, rows);
          // (The sign of a zero of zero would be that of any of the elements that are.)
          ASSERT_TRUE(part == seal(*codec, side, simd::scalar_table(), shape, rows));
          // It counts as zero, which is outside of the range when all others are far from it: then
          // it becomes the end that is nearer.
          const float back = read(*codec, side, shape, part)[7][5];
          EXPECT_NEAR(back, mean, mean == 0 ? 1.0F : 4.0F);
          EXPECT_LE(std::abs(back), std::abs(mean) == 0 ? 1.0F : 39.5F);
        }
      }
    }
  }
}

TEST(Kivi, EightBitsAreStepsFromTheSmallestElement) {
  Rows rows(16, std::vector<float>(16, -1.0F));
  rows[0][3] = -1.0F + 255 * 0.25F;
  rows[1][3] = -1.0F + 7 * 0.25F;
  const BlockShape shape{16, 16};
  for (const Side side : {Side::k, Side::v}) {
    const auto part = seal(kivi8_codec(), side, simd::scalar_table(), shape, rows);
    const auto byte = [&](std::size_t i) { return std::to_integer<int>(part[i]); };
    const auto half = [&](std::size_t i) { return byte(256 + 2 * i) + 256 * byte(257 + 2 * i); };
    const std::size_t group = side == Side::k ? 3 : 0;  // that channel, the first row
    EXPECT_EQ(half(group), 0x3400);                     // 1 / 4
    EXPECT_EQ(half(16 + group), 0xbc00);                // -1
    // K: channel 3 of rows 0 and 1 in the second plane. V: rows 0 and 1 of channel 3 in the first.
    const std::size_t at = side == Side::k ? 8 + 1 : 6;
    EXPECT_EQ(byte(at), 255);
    EXPECT_EQ(byte(side == Side::k ? at + 2 : at + 1), side == Side::k ? 7 : 255);
    EXPECT_EQ(byte(side == Side::k ? 8 : 4), 0);
    EXPECT_EQ(read(kivi8_codec(), side, shape, part)[0][3], rows[0][3]);
  }
}

}  // namespace
}  // namespace larder
