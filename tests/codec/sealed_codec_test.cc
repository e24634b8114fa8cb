// Every sealed format against what theory says of it, through the primitives of every set.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "codec/bf16.h"
#include "codec/fp8.h"
#include "codec/ggml_rows.h"
#include "codec/int4.h"
#include "codec/int8.h"
#include "codec/kivi.h"
#include "codec/rotated.h"
#include "codec/sealed_parts.h"

namespace larder {
namespace {

double largest_square(const Rows& rows) {  // mean of rows
  double sum = 0;
  for (const auto& row : rows) {
    float m = 0;
    for (const float x : row) m = std::max(m, std::abs(x));
    sum += double{m} * m;
  }
  return sum / static_cast<double>(rows.size());
}

double range_square(const Rows& rows, Side side) {  // mean of rows, or of channels
  const std::size_t n_groups = side == Side::v ? rows.size() : rows[0].size();
  double sum = 0;
  for (std::size_t g = 0; g < n_groups; ++g) {
    float low = side == Side::v ? rows[g][0] : rows[0][g], high = low;
    for (std::size_t i = 0; i < (side == Side::v ? rows[0].size() : rows.size()); ++i) {
      const float x = side == Side::v ? rows[g][i] : rows[i][g];
      low = std::min(low, x);
      high = std::max(high, x);
    }
    sum += double{high - low} * (high - low);
  }
  return sum / static_cast<double>(n_groups);
}

// What each format promises: its registry entry, the bits of an element without scales, and the
// mean square of its error relative to that of rows of N(0, 1).
struct OfRows {  // formats with a scale per row
  static std::size_t scale_bytes(BlockShape shape, Side) { return shape.block_tokens * 2; }
};
struct Int8 : OfRows {
  static const KvCodec& codec() { return int8_codec(); }
  static constexpr std::size_t kBits = 8;
  static double relative_error(const Rows& rows, Side) {
    return largest_square(rows) / (127 * 127 * 12);
  }
};
struct Fp8 : OfRows {
  static const KvCodec& codec() { return fp8_codec(); }
  static constexpr std::size_t kBits = 8;
  // Steps of an eighth of the power of two below x, whose square is 3 / (4 ln 4) of x^2 on average.
  static double relative_error(const Rows&, Side) { return 0x1p-6 / 12 * 0.541; }
};
struct Int4 : OfRows {
  static const KvCodec& codec() { return int4_codec(); }
  static constexpr std::size_t kBits = 4;
  static double relative_error(const Rows& rows, Side) {
    return largest_square(rows) / (7 * 7 * 12);
  }
};
struct Rot8 : Int8 {
  static const KvCodec& codec() { return rot8_codec(); }
};
struct Rot5 : OfRows {
  static const KvCodec& codec() { return rot5_codec(); }
  static constexpr std::size_t kBits = 5;
  static double relative_error(const Rows&, Side) { return 0.0025; }
};
struct Rot4 : OfRows {
  static const KvCodec& codec() { return rot4_codec(); }
  static constexpr std::size_t kBits = 4;
  static double relative_error(const Rows&, Side) { return 0.0095; }
};
struct Rot3 : OfRows {
  static const KvCodec& codec() { return rot3_codec(); }
  static constexpr std::size_t kBits = 3;
  static double relative_error(const Rows&, Side) { return 0.0345; }
};
struct Rot2 : OfRows {
  static const KvCodec& codec() { return rot2_codec(); }
  static constexpr std::size_t kBits = 2;
  static double relative_error(const Rows&, Side) { return 0.1175; }
};
template <const KvCodec& (*kCodec)(), std::size_t kBitsOf>
struct Kivi {
  static const KvCodec& codec() { return kCodec(); }
  static constexpr std::size_t kBits = kBitsOf;
  static std::size_t scale_bytes(BlockShape shape, Side side) {
    return 4 * (side == Side::k ? shape.head_dim : shape.block_tokens);
  }
  static double relative_error(const Rows& rows, Side side) {
    constexpr double kSteps = (1U << kBitsOf) - 1;
    const double n = static_cast<double>(side == Side::v ? rows[0].size() : rows.size());
    return range_square(rows, side) / (kSteps * kSteps * 12) * (1 - 2 / n);  // both ends are exact
  }
};
using Kivi8 = Kivi<kivi8_codec, 8>;
using Kivi4 = Kivi<kivi4_codec, 4>;
using Kivi2 = Kivi<kivi2_codec, 2>;

template <const KvCodec& (*kCodec)(), DType kType>
struct Ggml {  // blocks of 32 elements
  static const KvCodec& codec() { return kCodec(); }
  static constexpr std::size_t kBits = kType == DType::q8_0 ? 8 : 4;
  static std::size_t scale_bytes(BlockShape shape, Side) {
    return shape.block_tokens * shape.head_dim / 32 * 2;
  }
  static double relative_error(const Rows& rows, Side) {
    Rows blocks;
    for (const auto& row : rows) {
      for (auto at = row.begin(); at != row.end(); at += 32) blocks.emplace_back(at, at + 32);
    }
    constexpr double kTop = kType == DType::q8_0 ? 127 : 8;
    return largest_square(blocks) / (kTop * kTop * 12);
  }
};
using Q8 = Ggml<q8_0_codec, DType::q8_0>;
using Q4 = Ggml<q4_0_codec, DType::q4_0>;

std::string refusal(const KvCodec& codec, Side side, BlockShape shape) {
  return side == Side::k ? codec.refusal_k(shape) : codec.refusal_v(shape);
}

std::vector<BlockShape> shapes() {
  std::vector<BlockShape> all;
  for (const std::uint32_t head_dim : {16U, 64U, 80U, 96U, 128U, 256U}) {
    for (const std::uint32_t n : {16U, 32U}) all.push_back({n, head_dim});
  }
  all.push_back({128, 64});
  return all;
}

double relative_error(const Rows& a, const Rows& b) {
  double error = 0, size = 0;
  for (std::size_t t = 0; t < a.size(); ++t) {
    for (std::size_t c = 0; c < a[t].size(); ++c) {
      error += std::pow(double{a[t][c]} - b[t][c], 2);
      size += std::pow(double{a[t][c]}, 2);
    }
  }
  return error / size;
}

template <class Format>
class SealedCodecTest : public testing::Test {
 protected:
  const KvCodec& codec() const { return Format::codec(); }
  template <class F>
  void for_each_case(F&& f) const {
    for (const BlockShape shape : shapes()) {
      for (const Side side : {Side::k, Side::v}) {
        if (!refusal(codec(), side, shape).empty()) continue;
        for (const simd::Table* table : simd::available()) {
          SCOPED_TRACE(testing::Message() << table->name << (side == Side::k ? " K " : " V ")
                                          << shape.block_tokens << " x " << shape.head_dim);
          f(shape, side, *table);
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
};
using Formats =
    testing::Types<Int8, Fp8, Int4, Rot8, Rot5, Rot4, Rot3, Rot2, Kivi8, Kivi4, Kivi2, Q8, Q4>;
TYPED_TEST_SUITE(SealedCodecTest, Formats);

TYPED_TEST(SealedCodecTest, IsFoundByItsNameAndNumber) {
  EXPECT_EQ(&kv_codec(this->codec().format), &this->codec());
  EXPECT_EQ(parse_kv_format(this->codec().name), this->codec().format);
  EXPECT_EQ(this->codec().raw, KvFormat::bf16);
}

TYPED_TEST(SealedCodecTest, TakesTheBytesItSays) {
  const BlockShape shape{32, 64};
  const std::size_t codes = 32 * 64 * TypeParam::kBits / 8;
  EXPECT_EQ(this->codec().k_bytes(shape), codes + TypeParam::scale_bytes(shape, Side::k));
  EXPECT_EQ(this->codec().v_bytes(shape), codes + TypeParam::scale_bytes(shape, Side::v));
}

TYPED_TEST(SealedCodecTest, RefusesShapesThatItCannotStore) {
  EXPECT_NE(this->codec().refusal_k({32, 8}), "");
  EXPECT_NE(this->codec().refusal_v({32, 72}), "");
  for (const std::uint32_t head_dim : {64U, 96U, 128U, 256U}) {
    EXPECT_EQ(this->codec().refusal_k({32, head_dim}), "");
    EXPECT_EQ(this->codec().refusal_v({32, head_dim}), "");
  }
}

TYPED_TEST(SealedCodecTest, ErrorIsWhatTheorySays) {
  this->for_each_case([&](BlockShape shape, Side side, const simd::Table& table) {
    std::mt19937 rng(shape.head_dim);  // the same rows for every set
    const Rows rows = normal_rows(rng, shape);
    const Rows back =
        read(this->codec(), side, shape, seal(this->codec(), side, table, shape, rows));
    // bf16 of the open rows adds 2^-18 / 3. Small samples scatter, and rows of few elements of
    // known length have no tails.
    const double theory = TypeParam::relative_error(rows, side) + 1.5e-6;
    const double n = shape.block_tokens * shape.head_dim;
    const double scatter = shape.head_dim < 64 ? 0.4 : n < 4096 ? 0.3 : 0.12;
    ASSERT_NEAR(relative_error(rows, back), theory, scatter * theory);
  });
}

TYPED_TEST(SealedCodecTest, EverySetWritesWhatTheScalarOneWrites) {
  std::mt19937 rng(2);
  this->for_each_case([&](BlockShape shape, Side side, const simd::Table& table) {
    const Rows rows = normal_rows(rng, shape);
    const KvCodec& codec = this->codec();
    const Rows a = read(codec, side, shape, seal(codec, side, simd::scalar_table(), shape, rows));
    const Rows b = read(codec, side, shape, seal(codec, side, table, shape, rows));
    // Sums are added in another order: what lies on a bound may fall to the other side of it.
    std::size_t n_other = 0;
    for (std::size_t t = 0; t < a.size(); ++t) {
      for (std::size_t c = 0; c < a[t].size(); ++c) {
        n_other += std::abs(a[t][c] - b[t][c]) > 2e-3 * std::abs(a[t][c]) + 1e-6;
      }
    }
    ASSERT_LE(n_other, 1 + shape.block_tokens * shape.head_dim / 500);
  });
}

TYPED_TEST(SealedCodecTest, EverySetDecodesToTheSameBits) {
  std::mt19937 rng(3);
  this->for_each_case([&](BlockShape shape, Side side, const simd::Table& table) {
    const auto part =
        seal(this->codec(), side, simd::scalar_table(), shape, normal_rows(rng, shape));
    const auto a = decode(this->codec(), side, simd::scalar_table(), shape, part);
    const auto b = decode(this->codec(), side, table, shape, part);
    ASSERT_TRUE(a == b);
  });
}

TYPED_TEST(SealedCodecTest, ZerosAndConstantsAndTinyRows) {
  this->for_each_case([&](BlockShape shape, Side side, const simd::Table& table) {
    Rows rows(shape.block_tokens, std::vector<float>(shape.head_dim, 0.0F));
    std::fill(rows[1].begin(), rows[1].end(), 2.5F);
    std::fill(rows[2].begin(), rows[2].end(), std::numeric_limits<float>::denorm_min());
    std::fill(rows[3].begin(), rows[3].end(), -1e-30F);
    const Rows back =
        read(this->codec(), side, shape, seal(this->codec(), side, table, shape, rows));
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
      ASSERT_EQ(back[0][c], 0.0F);
      ASSERT_NEAR(back[1][c], 2.5F, 2.5e-3F);  // the scale is f16
      ASSERT_NEAR(back[2][c], 0.0F, 1e-7F);
      ASSERT_NEAR(back[3][c], 0.0F, 1e-7F);
      ASSERT_EQ(back[4][c], 0.0F);
    }
  });
}

TYPED_TEST(SealedCodecTest, NoNumberIsZeroAndNothingLeavesItsRow) {
  std::mt19937 rng(4);
  this->for_each_case([&](BlockShape shape, Side side, const simd::Table& table) {
    Rows good = normal_rows(rng, shape);
    // Values that other rows have, too: where scales belong to channels, they decide nothing.
    good[3][1] = good[4][1];
    good[5][2] = good[4][2];
    good[6][0] = good[4][0];
    Rows bad = good;
    bad[3][1] = std::nanf("");
    bad[5][2] = std::numeric_limits<float>::infinity();
    bad[6][0] = -3e38F;
    const KvCodec& codec = this->codec();
    const Rows expected = read(codec, side, shape, seal(codec, side, table, shape, good));
    const Rows back = read(codec, side, shape, seal(codec, side, table, shape, bad));
    for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
      for (std::uint32_t c = 0; c < shape.head_dim; ++c) ASSERT_TRUE(std::isfinite(back[t][c]));
      if (t == 3 || t == 5 || t == 6) continue;
      ASSERT_EQ(back[t], expected[t]) << "row " << t;
    }
    Rows zero = good;
    zero[3][1] = 0;
    ASSERT_EQ(back[3], read(codec, side, shape, seal(codec, side, table, shape, zero))[3]);
  });
}

TEST(GgmlRows, HaveTheBytesThatGgmlWrites) {
  std::vector<float> row(32);
  for (int i = 0; i < 32; ++i) row[static_cast<std::size_t>(i)] = static_cast<float>(i - 20) * 0.5F;
  const BlockShape shape{16, 32};
  const Rows rows(16, row);
  const auto q8 = seal(q8_0_codec(), Side::k, simd::scalar_table(), shape, rows);
  // The scale is 10 / 127: f16 0x2d0a.
  EXPECT_EQ(std::to_integer<int>(q8[34]), 0x0a);
  EXPECT_EQ(std::to_integer<int>(q8[35]), 0x2d);
  EXPECT_EQ(static_cast<std::int8_t>(q8[36]), -127);
  EXPECT_EQ(static_cast<std::int8_t>(q8[37]), -121);  // -9.5 is -120.65 steps
  EXPECT_EQ(static_cast<std::int8_t>(q8[34 + 2 + 31]), 70);
  const auto q4 = seal(q4_0_codec(), Side::v, simd::scalar_table(), shape, rows);
  // The scale is -10 / -8: f16 0x3d00; element 0 has code 0, element 16 (-2) 8 - 1.6 rounded.
  EXPECT_EQ(std::to_integer<int>(q4[18]), 0x00);
  EXPECT_EQ(std::to_integer<int>(q4[19]), 0x3d);
  EXPECT_EQ(std::to_integer<int>(q4[20]), 0x60);
  EXPECT_EQ(std::to_integer<int>(q4[20 + 15]), 0xc6);  // elements 15 (-2.5) and 31 (5.5)
}

TEST(Hadamard, KeepsProductsAndIsItsOwnInverse) {
  std::mt19937 rng(5);
  for (const simd::Table* table : simd::available()) {
    for (const std::uint32_t d : {2U, 12U, 64U, 80U, 96U, 128U, 256U, 7U}) {
      SCOPED_TRACE(testing::Message() << table->name << " " << d);
      const Rows before = normal_rows(rng, {2, d});
      std::vector<float> both(before[0]);
      both.insert(both.end(), before[1].begin(), before[1].end());
      std::vector<float> expected = both;
      table->hadamard(both.data(), 2, d);
      simd::scalar_table().hadamard(expected.data(), 2, d);
      EXPECT_EQ(both, expected);
      double product = 0, rotated = 0;
      for (std::uint32_t c = 0; c < d; ++c) {
        product += double{before[0][c]} * before[1][c];
        rotated += double{both[c]} * both[d + c];
      }
      EXPECT_NEAR(product, rotated, 1e-4);
      table->hadamard(both.data(), 2, d);
      for (std::uint32_t c = 0; c < d; ++c) EXPECT_NEAR(both[c], before[0][c], 1e-5);
    }
  }
}

TEST(Hadamard, SpreadsAnOutlierOverItsPowerOfTwo) {
  std::vector<float> row(80, 0.0F);
  row[17] = 4;
  simd::best().hadamard(row.data(), 1, 80);
  for (std::uint32_t c = 0; c < 80; ++c) EXPECT_EQ(std::abs(row[c]), c / 16 == 1 ? 1.0F : 0.0F);
}

}  // namespace
}  // namespace larder
