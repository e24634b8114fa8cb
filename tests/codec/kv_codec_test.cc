#include "codec/kv_codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "codec/bf16.h"
#include "codec/f16.h"
#include "codec/f32.h"

namespace larder {
namespace {

// What each format promises: its registry entry and its largest relative error.
struct F32 {
  static const KvCodec& codec() { return f32_codec(); }
  static constexpr double kRelativeError = 0;
  static constexpr std::size_t kElementBytes = 4;
};
struct F16 {
  static const KvCodec& codec() { return f16_codec(); }
  static constexpr double kRelativeError = 0x1p-11;
  static constexpr std::size_t kElementBytes = 2;
};
struct Bf16 {
  static const KvCodec& codec() { return bf16_codec(); }
  static constexpr double kRelativeError = 0x1p-8;
  static constexpr std::size_t kElementBytes = 2;
};

const std::vector<BlockShape>& shapes() {
  static const std::vector<BlockShape> kShapes = [] {
    std::vector<BlockShape> all;
    for (const std::uint32_t head_dim : {2U, 8U, 16U, 64U, 80U, 96U, 128U, 256U}) {
      for (const std::uint32_t n : {16U, 32U, 48U, 64U, 128U}) all.push_back({n, head_dim});
    }
    return all;
  }();
  return kShapes;
}

std::vector<float> random_row(std::mt19937& rng, std::uint32_t head_dim) {
  std::normal_distribution<float> normal;
  std::vector<float> row(head_dim);
  for (float& x : row) x = normal(rng);
  return row;
}

template <class Format>
class KvCodecTest : public testing::Test {};
using Formats = testing::Types<F32, F16, Bf16>;
TYPED_TEST_SUITE(KvCodecTest, Formats);

TYPED_TEST(KvCodecTest, IsFoundByItsNameAndNumber) {
  const KvCodec& codec = TypeParam::codec();
  EXPECT_EQ(&kv_codec(codec.format), &codec);
  EXPECT_EQ(parse_kv_format(codec.name), codec.format);
  EXPECT_EQ(codec.raw, codec.format);
}

TYPED_TEST(KvCodecTest, TakesTheBytesOfItsElements) {
  for (const BlockShape shape : shapes()) {
    const std::size_t n = shape.block_tokens * shape.head_dim * TypeParam::kElementBytes;
    EXPECT_EQ(TypeParam::codec().k_bytes(shape), n);
    EXPECT_EQ(TypeParam::codec().v_bytes(shape), n);
  }
}

TYPED_TEST(KvCodecTest, ReadsBackWhatWasAppendedInAnyOrder) {
  const KvCodec& codec = TypeParam::codec();
  std::mt19937 rng(1);
  for (const BlockShape shape : shapes()) {
    // Buffers of the exact size: a sanitizer sees any byte written beside them.
    std::vector<std::byte> k(codec.k_bytes(shape), std::byte{0xff});
    std::vector<std::byte> v(codec.v_bytes(shape), std::byte{0xff});
    std::vector<std::vector<float>> rows(shape.block_tokens);
    std::vector<std::uint32_t> order(shape.block_tokens);
    for (std::uint32_t t = 0; t < shape.block_tokens; ++t) order[t] = t;
    std::shuffle(order.begin(), order.end(), rng);
    for (const std::uint32_t t : order) {
      rows[t] = random_row(rng, shape.head_dim);
      codec.append_k(rows[t].data(), t, shape, k.data());
      codec.append_v(rows[t].data(), t, shape, v.data());
    }
    std::vector<float> from_k(shape.head_dim), from_v(shape.head_dim);
    for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
      codec.read_k(k.data(), t, shape, from_k.data());
      codec.read_v(v.data(), t, shape, from_v.data());
      EXPECT_EQ(from_k, from_v);
      for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
        ASSERT_NEAR(from_k[c], rows[t][c], TypeParam::kRelativeError * std::abs(rows[t][c]) + 1e-7)
            << "row " << t << " channel " << c;
      }
    }
  }
}

TYPED_TEST(KvCodecTest, AppendLeavesOtherRowsAlone) {
  const KvCodec& codec = TypeParam::codec();
  std::mt19937 rng(2);
  const BlockShape shape{32, 80};
  std::vector<std::byte> k(codec.k_bytes(shape), std::byte{0xa5});
  std::vector<std::byte> v(codec.v_bytes(shape), std::byte{0xa5});
  const std::vector<float> row = random_row(rng, shape.head_dim);
  codec.append_k(row.data(), 17, shape, k.data());
  codec.append_v(row.data(), 17, shape, v.data());
  const auto untouched = [](const std::vector<std::byte>& bytes) {
    return static_cast<std::size_t>(std::count(bytes.begin(), bytes.end(), std::byte{0xa5}));
  };
  const std::size_t row_bytes = shape.head_dim * TypeParam::kElementBytes;
  EXPECT_GE(untouched(k), k.size() - row_bytes);
  EXPECT_GE(untouched(v), v.size() - row_bytes);
}

TYPED_TEST(KvCodecTest, SpecialValuesStayWhatTheyAre) {
  const KvCodec& codec = TypeParam::codec();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kTiny = std::numeric_limits<float>::denorm_min();
  const std::vector<float> in = {std::nanf(""), kInf, -kInf, 0.0F, -0.0F, kTiny, -kTiny, 3e38F};
  const BlockShape shape{16, static_cast<std::uint32_t>(in.size())};
  std::vector<std::byte> k(codec.k_bytes(shape)), v(codec.v_bytes(shape));
  std::vector<float> out(in.size());
  const auto expect_same = [&] {
    EXPECT_TRUE(std::isnan(out[0]));
    EXPECT_EQ(out[1], kInf);
    EXPECT_EQ(out[2], -kInf);
    EXPECT_EQ(out[3], 0.0F);
    EXPECT_FALSE(std::signbit(out[3]));
    EXPECT_EQ(out[4], 0.0F);
    EXPECT_TRUE(std::signbit(out[4]));
    // A denormal is kept or becomes a zero of its sign; what is too large becomes infinite.
    EXPECT_TRUE(out[5] == kTiny || (out[5] == 0 && !std::signbit(out[5])));
    EXPECT_TRUE(out[6] == -kTiny || (out[6] == 0 && std::signbit(out[6])));
    EXPECT_TRUE(out[7] == kInf || std::abs(out[7] / 3e38F - 1) <= TypeParam::kRelativeError);
  };
  codec.append_k(in.data(), 5, shape, k.data());
  codec.read_k(k.data(), 5, shape, out.data());
  expect_same();
  codec.append_v(in.data(), 5, shape, v.data());
  codec.read_v(v.data(), 5, shape, out.data());
  expect_same();
}

// The primitives read the bytes that the codec wrote: results against the formula over read rows.
TYPED_TEST(KvCodecTest, PrimitivesAgreeWithReadRows) {
  const KvCodec& codec = TypeParam::codec();
  std::mt19937 rng(3);
  for (const BlockShape shape : shapes()) {
    const std::uint32_t n = shape.block_tokens, d = shape.head_dim;
    std::vector<std::byte> k(codec.k_bytes(shape)), v(codec.v_bytes(shape));
    std::vector<std::vector<float>> keys(n, std::vector<float>(d)), values = keys;
    for (std::uint32_t t = 0; t < n; ++t) {
      codec.append_k(random_row(rng, d).data(), t, shape, k.data());
      codec.append_v(random_row(rng, d).data(), t, shape, v.data());
      codec.read_k(k.data(), t, shape, keys[t].data());
      codec.read_v(v.data(), t, shape, values[t].data());
    }
    const std::vector<float> q = random_row(rng, d);
    const std::vector<float> weights = random_row(rng, n);
    for (const simd::Table* table : simd::available()) {
      std::vector<float> scores(n);
      codec.scores (*table)(q.data(), {k.data(), v.data()}, shape, {scores.data(), 1, n});
      for (std::uint32_t t = 0; t < n; ++t) {
        double expected = 0, size = 0;
        for (std::uint32_t c = 0; c < d; ++c) {
          expected += double{q[c]} * keys[t][c];
          size += std::abs(double{q[c]} * keys[t][c]);
        }
        ASSERT_NEAR(scores[t], expected, 1e-5 * size) << table->name;
      }
      std::vector<float> out(d, 0.5F), w = weights;
      codec.accumulate (*table)({w.data(), 1, n}, {v.data(), nullptr}, shape, n - 1, out.data());
      for (std::uint32_t c = 0; c < d; ++c) {
        double expected = 0.5, size = 0.5;
        for (std::uint32_t t = 0; t + 1 < n; ++t) {
          expected += double{weights[t]} * values[t][c];
          size += std::abs(double{weights[t]} * values[t][c]);
        }
        ASSERT_NEAR(out[c], expected, 1e-5 * size) << table->name;
      }
    }
  }
}

TEST(KvCodecRegistry, NamesAreDistinctAndUnknownOnesAreRefused) {
  for (const KvCodec* a : kv_codecs()) {
    for (const KvCodec* b : kv_codecs()) EXPECT_EQ(a == b, a->name == b->name);
  }
  EXPECT_EQ(parse_kv_format("q3_z"), std::nullopt);
  EXPECT_EQ(parse_kv_format(""), std::nullopt);
  EXPECT_EQ(parse_kv_format("BF16"), std::nullopt);
}

}  // namespace
}  // namespace larder
