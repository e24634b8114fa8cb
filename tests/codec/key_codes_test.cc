// Blocks of keys before rope: what theory says of their error, through every instruction set.
#include "codec/key_codes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "codec/bf16.h"
#include "codec/kvq.h"

namespace larder {
namespace {

using Rows = std::vector<std::vector<float>>;

const KvCodec* const kCodecs[] = {&kvq4_codec(),  &kvq4o_codec(), &kvq3_codec(),
                                  &kvq3o_codec(), &kvq2_codec(),  &kvq2o_codec()};

// Of N(0, 1), Lloyd-Max: positive halves.
std::vector<float> normal_table(std::uint32_t bits) {
  const std::vector<float> half = bits == 2 ? std::vector<float>{0.4528F, 1.5104F}
                                  : bits == 3
                                      ? std::vector<float>{0.2451F, 0.7560F, 1.3439F, 2.1519F}
                                      : std::vector<float>{0.1284F, 0.3880F, 0.6568F, 0.9423F,
                                                           1.2562F, 1.6180F, 2.0690F, 2.7326F};
  std::vector<float> values;
  for (std::size_t i = half.size(); i-- > 0;) values.push_back(-half[i]);
  values.insert(values.end(), half.begin(), half.end());
  return values;
}
double normal_error(std::uint32_t bits) { return bits == 2 ? 0.1175 : bits == 3 ? 0.0345 : 0.0095; }

// Channels of their own mean and spread, at some position.
class Head {
 public:
  Head(const KvCodec& codec, BlockShape shape, std::mt19937& rng)
      : codec_(codec), shape_(shape), book_(make_key_book(bits(), normal_table(bits()))) {
    std::normal_distribution<float> normal;
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
      mean_.push_back(3 * normal(rng));
      spread_.push_back(0.2F + std::abs(normal(rng)));
      inverse_.push_back(1 / spread_.back());
    }
    std::uniform_real_distribution<float> any(0, 6);
    const std::size_t n_half = shape.head_dim / 2;
    for (std::size_t i = 0; i < n_half * (shape.block_tokens + 1); ++i) {
      const float angle = any(rng);
      cos_.push_back(std::cos(angle));
      sin_.push_back(std::sin(angle));
    }
  }
  std::uint32_t bits() const { return codec_.before_rope->bits; }
  KeyCoding coding() const {
    const std::size_t n_half = shape_.head_dim / 2;
    return {*codec_.before_rope,
            book_,
            {mean_.data(), spread_.data(), inverse_.data(), n_half, false, cos_.data(), sin_.data(),
             cos_.data() + n_half, sin_.data() + n_half, shape_.block_tokens}};
  }
  /// Keys whose values y are the rows', as they are cached.
  std::vector<std::byte> cached(const Rows& y) const {
    std::vector<std::byte> bf16(std::size_t{shape_.block_tokens} * shape_.head_dim * 2);
    for (std::uint32_t t = 0; t < shape_.block_tokens; ++t) {
      bf16_codec().append_k(y[t].data(), t, shape_, bf16.data());
    }
    simd::scalar_table().turn_keys(coding().turn, shape_, bf16.data());
    return bf16;
  }
  /// Squared error of the block and the squares of spread * y, in keys.
  std::pair<double, double> errors(const std::vector<std::byte>& expected,
                                   const std::vector<std::byte>& got, const Rows& y) const {
    std::vector<float> a(shape_.head_dim), b(a.size());
    double error = 0, size = 0;
    for (std::uint32_t t = 0; t < shape_.block_tokens; ++t) {
      bf16_codec().read_k(expected.data(), t, shape_, a.data());
      bf16_codec().read_k(got.data(), t, shape_, b.data());
      for (std::size_t c = 0; c < a.size(); ++c) {
        error += double{a[c] - b[c]} * (a[c] - b[c]);
        size += double{spread_[c] * y[t][c]} * (spread_[c] * y[t][c]);
      }
    }
    return {error, size};
  }

 private:
  const KvCodec& codec_;
  BlockShape shape_;
  simd::CodeBook book_;
  std::vector<float> mean_, spread_, inverse_, cos_, sin_;
};

Rows normal_rows(BlockShape shape, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  Rows rows(shape.block_tokens, std::vector<float>(shape.head_dim));
  for (auto& row : rows) {
    for (float& x : row) x = normal(rng);
  }
  return rows;
}

std::vector<BlockShape> shapes(const KvCodec& codec) {
  std::vector<BlockShape> all;
  for (const std::uint32_t d : {16U, 32U, 64U, 80U, 96U, 128U, 256U}) {
    for (const std::uint32_t n : {16U, 32U, 64U}) {
      if (codec.refusal_k({n, d}).empty()) all.push_back({n, d});
    }
  }
  return all;
}

struct Sealed {
  std::vector<std::byte> part, decoded;
};
Sealed seal(const simd::Table& table, const KvCodec& codec, const KeyCoding& coding,
            BlockShape shape, const std::vector<std::byte>& bf16) {
  Sealed sealed;  // buffers of the exact size: a sanitizer sees any byte written beside them
  sealed.part.resize(codec.k_bytes(shape));
  sealed.decoded.resize(bf16.size());
  encode_keys(table, coding, bf16.data(), shape, sealed.part.data());
  decode_keys(table, coding, sealed.part.data(), shape, sealed.decoded.data());
  return sealed;
}

TEST(KeyCodes, ErrorIsThatOfTheTable) {
  std::mt19937 rng(1);
  for (const KvCodec* codec : kCodecs) {
    double error = 0, size = 0;
    for (const BlockShape shape : shapes(*codec)) {
      const Head head(*codec, shape, rng);
      const Rows y = normal_rows(shape, rng);
      const auto bf16 = head.cached(y);
      const Sealed sealed = seal(simd::best(), *codec, head.coding(), shape, bf16);
      const auto of_block = head.errors(bf16, sealed.decoded, y);
      error += of_block.first;
      size += of_block.second;
    }
    // What is kept apart loses next to nothing, and would have lost most. Rounding keys to bf16 on
    // both ways adds some 1e-4 where means are larger than spreads.
    const double expected = normal_error(codec->before_rope->bits);
    const double ratio = (error / size) / expected;
    if (codec->before_rope->keeps_apart) {
      EXPECT_LT(ratio, 0.92) << codec->name;
      EXPECT_GT(ratio, 0.6) << codec->name;
    } else {
      EXPECT_NEAR(ratio, 1, 0.06) << codec->name;
    }
  }
}

TEST(KeyCodes, AllSetsWriteAndReadTheSameBytes) {
  std::mt19937 rng(2);
  for (const KvCodec* codec : kCodecs) {
    for (const BlockShape shape : shapes(*codec)) {
      const Head head(*codec, shape, rng);
      const auto bf16 = head.cached(normal_rows(shape, rng));
      const Sealed expected = seal(simd::scalar_table(), *codec, head.coding(), shape, bf16);
      for (const simd::Table* table : simd::available()) {
        const Sealed sealed = seal(*table, *codec, head.coding(), shape, bf16);
        EXPECT_EQ(sealed.part, expected.part) << codec->name << " " << table->name;
        EXPECT_EQ(sealed.decoded, expected.decoded) << codec->name << " " << table->name;
      }
    }
  }
}

TEST(KeyCodes, WhatLosesMostIsKeptApart) {
  std::mt19937 rng(3);
  const BlockShape shape{32, 64};
  const Head head(kvq2o_codec(), shape, rng);
  Rows y(shape.block_tokens, std::vector<float>(shape.head_dim));
  const std::size_t n = n_apart(*kvq2o_codec().before_rope, shape);
  EXPECT_EQ(n, 20U);
  for (std::size_t i = 0; i < n; ++i) y[(i * 7) % 32][(i * 13) % 64] = 40.0F;
  const auto bf16 = head.cached(y);
  for (const simd::Table* table : simd::available()) {
    const Sealed sealed = seal(*table, kvq2o_codec(), head.coding(), shape, bf16);
    const auto with = head.errors(bf16, sealed.decoded, y);
    EXPECT_LT(with.first / with.second, 0.02) << table->name;
  }
  const Head without(kvq2_codec(), shape, rng);
  const auto other = without.cached(y);
  const Sealed sealed = seal(simd::best(), kvq2_codec(), without.coding(), shape, other);
  const auto error = without.errors(other, sealed.decoded, y);
  EXPECT_GT(error.first / error.second, 0.5);
}

TEST(KeyCodes, NoNumbersStayInTheirRowAndConstantsAreKept) {
  std::mt19937 rng(4);
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const BlockShape shape{32, 64};
  for (const KvCodec* codec : kCodecs) {
    const Head head(*codec, shape, rng);
    const std::vector<std::byte> good = head.cached(normal_rows(shape, rng));
    std::vector<std::byte> broken = good;
    std::vector<float> row(shape.head_dim, std::nanf(""));
    row[1] = kInf;
    row[2] = -kInf;
    row[3] = std::numeric_limits<float>::denorm_min();
    bf16_codec().append_k(row.data(), 9, shape, broken.data());
    for (const simd::Table* table : simd::available()) {
      const Sealed a = seal(*table, *codec, head.coding(), shape, good);
      const Sealed b = seal(*table, *codec, head.coding(), shape, broken);
      for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
        std::vector<float> x(shape.head_dim), z(x.size());
        bf16_codec().read_k(a.decoded.data(), t, shape, x.data());
        bf16_codec().read_k(b.decoded.data(), t, shape, z.data());
        for (const float f : z) EXPECT_TRUE(std::isfinite(f)) << codec->name << " " << table->name;
        // Which elements are kept apart is a matter of the whole block.
        if (t == 9 || codec->before_rope->keeps_apart) continue;
        EXPECT_EQ(x, z) << codec->name;
      }
    }
  }
}

TEST(KeyCodes, BytesAndRefusals) {
  EXPECT_EQ(kvq4_codec().k_bytes({32, 64}), 1024U);
  EXPECT_EQ(kvq4o_codec().k_bytes({32, 64}), 1024U + 20 * 4);
  EXPECT_EQ(kvq3_codec().k_bytes({32, 64}), 768U);
  EXPECT_EQ(kvq2o_codec().k_bytes({16, 16}), 64U + 2 * 4);
  EXPECT_NE(kvq4_codec().refusal_k({32, 24}), "");
  EXPECT_NE(kvq3_codec().refusal_k({32, 80}), "");
  EXPECT_EQ(kvq2_codec().refusal_k({32, 80}), "");
  EXPECT_EQ(kvq4_codec().refusal_k({128, 128}), "");
  EXPECT_NE(kvq4_codec().refusal_k({128, 256}), "");
  for (const KvCodec* codec : kCodecs) {
    EXPECT_EQ(&kv_codec(codec->format), codec);
    EXPECT_EQ(parse_kv_format(codec->name), codec->format);
    EXPECT_NE(codec->refusal_v({32, 64}), "");
  }
}

}  // namespace
}  // namespace larder
