// Keys turned to their positions and back, against the formula in double and set against set.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "simd/simd.h"
#include "tensor/half.h"

namespace larder::simd {
namespace {

struct Case {
  BlockShape shape;
  std::size_t n_half;
  bool adjacent;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::uint32_t d : {16U, 48U, 64U, 80U, 128U}) {
    for (const bool adjacent : {false, true}) {
      for (const std::uint32_t n : {16U, 32U, 48U}) {
        all.push_back({{n, d}, d / 2, adjacent});
        all.push_back({{n, d}, d / 8, adjacent});  // a quarter of the channels
      }
      all.push_back({{32, d}, 5, adjacent});
      all.push_back({{32, d}, 1, adjacent});
    }
  }
  return all;
}

// Random channels and angles.
class Turn {
 public:
  Turn(const Case& c, std::mt19937& rng) : case_(c), stride_(c.shape.block_tokens + 3) {
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<double> any(0, 1000);
    for (std::uint32_t i = 0; i < c.shape.head_dim; ++i) {
      mean_.push_back(normal(rng));
      spread_.push_back(0.1F + std::abs(normal(rng)));
      inverse_.push_back(1 / spread_.back());
    }
    const auto add = [](std::vector<float>& cos, std::vector<float>& sin, double angle) {
      cos.push_back(static_cast<float>(std::cos(angle)));
      sin.push_back(static_cast<float>(std::sin(angle)));
    };
    for (std::size_t i = 0; i < c.n_half; ++i) {
      block_.push_back(any(rng));
      add(block_cos_, block_sin_, block_.back());
      for (std::size_t row = 0; row < stride_; ++row) {
        row_.push_back(any(rng));
        add(row_cos_, row_sin_, row_.back());
      }
    }
  }
  KeyTurn view() const {
    return {mean_.data(),      spread_.data(),    inverse_.data(), case_.n_half,    case_.adjacent,
            block_cos_.data(), block_sin_.data(), row_cos_.data(), row_sin_.data(), stride_};
  }
  /// The key that `y` [head_dim] stands for at a row, in double.
  std::vector<double> key(const std::vector<float>& y, std::size_t row) const {
    std::vector<double> x(y.size());
    for (std::size_t c = 0; c < y.size(); ++c) x[c] = double{mean_[c]} + double{spread_[c]} * y[c];
    for (std::size_t i = 0; i < case_.n_half; ++i) {
      const double angle = block_[i] + row_[i * stride_ + row];
      double& a = x[case_.adjacent ? 2 * i : i];
      double& b = x[case_.adjacent ? 2 * i + 1 : i + case_.n_half];
      const double from = a;
      a = from * std::cos(angle) - b * std::sin(angle);
      b = b * std::cos(angle) + from * std::sin(angle);
    }
    return x;
  }
  float spread(std::size_t c) const { return spread_[c]; }

 private:
  Case case_;
  std::size_t stride_;
  std::vector<float> mean_, spread_, inverse_, block_cos_, block_sin_, row_cos_, row_sin_;
  std::vector<double> block_, row_;
};

std::size_t index(std::size_t row, std::size_t channel, BlockShape shape) {
  const std::size_t plane = row / 16 * (shape.head_dim / 2) + channel / 2;
  return (plane * 16 + row % 16) * 2 + channel % 2;
}

using Part = std::vector<std::uint16_t>;
std::byte* bytes(Part& part) { return reinterpret_cast<std::byte*>(part.data()); }

Part random_part(BlockShape shape, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  Part part(std::size_t{shape.block_tokens} * shape.head_dim);
  for (std::uint16_t& x : part) x = f32_to_bf16(normal(rng));
  return part;
}

TEST(KeyTurn, TurnsByTheFormula) {
  std::mt19937 rng(1);
  for (const Case& c : cases()) {
    const Turn turn(c, rng);
    const Part y = random_part(c.shape, rng);
    for (const Table* table : available()) {
      Part keys = y;
      table->turn_keys(turn.view(), c.shape, bytes(keys));
      for (std::size_t row = 0; row < c.shape.block_tokens; ++row) {
        std::vector<float> of_row(c.shape.head_dim);
        for (std::size_t i = 0; i < of_row.size(); ++i) {
          of_row[i] = bf16_to_f32(y[index(row, i, c.shape)]);
        }
        const std::vector<double> expected = turn.key(of_row, row);
        for (std::size_t i = 0; i < of_row.size(); ++i) {
          const float got = bf16_to_f32(keys[index(row, i, c.shape)]);
          ASSERT_NEAR(double{got}, expected[i], 0x1p-8 * std::abs(expected[i]) + 1e-5)
              << table->name << ", " << c.shape.head_dim << " channels, " << c.n_half
              << (c.adjacent ? " adjacent" : " halves");
        }
      }
    }
  }
}

TEST(KeyTurn, TurningBackUndoesIt) {
  std::mt19937 rng(2);
  for (const Case& c : cases()) {
    const Turn turn(c, rng);
    const Part y = random_part(c.shape, rng);
    for (const Table* table : available()) {
      Part keys = y, back(y.size());
      table->turn_keys(turn.view(), c.shape, bytes(keys));
      table->turn_back_keys(turn.view(), bytes(keys), c.shape, bytes(back));
      for (std::size_t row = 0; row < c.shape.block_tokens; ++row) {
        for (std::size_t i = 0; i < c.shape.head_dim; ++i) {
          const std::size_t at = index(row, i, c.shape);
          // A key of some units is rounded to 8 bits, then divided by its channel's spread.
          ASSERT_NEAR(bf16_to_f32(back[at]), bf16_to_f32(y[at]), 0.06 / turn.spread(i) + 0.02)
              << table->name;
        }
      }
    }
  }
}

TEST(KeyTurn, AllSetsGiveTheSameBits) {
  std::mt19937 rng(3);
  for (const Case& c : cases()) {
    const Turn turn(c, rng);
    Part keys = random_part(c.shape, rng);
    Part expected = keys, expected_y(keys.size());
    keys[7] = f32_to_bf16(std::numeric_limits<float>::quiet_NaN());
    keys[9] = f32_to_bf16(-std::numeric_limits<float>::infinity());
    keys[11] = 1;  // a denormal
    expected = keys;
    expected[7] = expected[9] = 0;
    scalar_table().turn_back_keys(turn.view(), bytes(keys), c.shape, bytes(expected_y));
    scalar_table().turn_keys(turn.view(), c.shape, bytes(expected));
    for (const Table* table : available()) {
      Part y(keys.size()), turned = keys;
      turned[7] = turned[9] = 0;
      table->turn_back_keys(turn.view(), bytes(keys), c.shape, bytes(y));
      table->turn_keys(turn.view(), c.shape, bytes(turned));
      EXPECT_EQ(y, expected_y) << table->name;
      EXPECT_EQ(turned, expected) << table->name;
    }
  }
}

TEST(KeyTurn, WhatIsNoNumberStaysInItsRow) {
  std::mt19937 rng(4);
  const Case c{{32, 64}, 32, false};
  const Turn turn(c, rng);
  Part keys = random_part(c.shape, rng), broken = keys;
  broken[index(5, 3, c.shape)] = f32_to_bf16(std::numeric_limits<float>::quiet_NaN());
  broken[index(5, 40, c.shape)] = f32_to_bf16(std::numeric_limits<float>::infinity());
  for (const Table* table : available()) {
    Part y(keys.size()), of_broken(keys.size());
    table->turn_back_keys(turn.view(), bytes(keys), c.shape, bytes(y));
    table->turn_back_keys(turn.view(), bytes(broken), c.shape, bytes(of_broken));
    for (std::size_t row = 0; row < 32; ++row) {
      for (std::size_t i = 0; i < 64; ++i) {
        const std::size_t at = index(row, i, c.shape);
        if (row != 5) {
          ASSERT_EQ(of_broken[at], y[at]) << table->name;
        }
        ASSERT_TRUE(std::isfinite(bf16_to_f32(of_broken[at]))) << table->name;
      }
    }
  }
}

TEST(KeyTurn, PackedCodesAreTheNearestInAllSets) {
  std::mt19937 rng(5);
  for (const std::uint32_t bits : {2U, 3U, 4U, 5U}) {
    CodeBook book{};
    book.bits = bits;
    const std::size_t n = std::size_t{1} << bits;
    for (std::size_t i = 0; i < 128; ++i) {
      book.values[i] = f32_to_bf16(static_cast<float>(i % n) * 0.4F - 1.0F);
    }
    for (std::size_t i = 0; i < 127; ++i) {
      book.bounds[i] = (bf16_to_f32(book.values[i]) + bf16_to_f32(book.values[i + 1])) / 2;
    }
    for (const BlockShape shape : {BlockShape{16, 32}, BlockShape{32, 64}, BlockShape{128, 96}}) {
      Part y = random_part(shape, rng);
      std::vector<std::byte> expected(code_bytes(book, shape));
      scalar_table().pack_codes_k(book, bytes(y), shape, expected.data());
      for (const Table* table : available()) {
        std::vector<std::byte> part(expected.size(), std::byte{0xff});
        table->pack_codes_k(book, bytes(y), shape, part.data());
        EXPECT_EQ(part, expected) << table->name << " " << bits << " bits";
        Part decoded(y.size());
        table->decode_codes_k(book, part.data(), shape, bytes(decoded));
        for (std::size_t i = 0; i < y.size(); ++i) {
          float least = std::numeric_limits<float>::infinity();
          for (std::size_t v = 0; v < n; ++v) {
            least = std::min(least, std::abs(bf16_to_f32(book.values[v]) - bf16_to_f32(y[i])));
          }
          ASSERT_EQ(std::abs(bf16_to_f32(decoded[i]) - bf16_to_f32(y[i])), least);
        }
      }
    }
  }
}

}  // namespace
}  // namespace larder::simd
