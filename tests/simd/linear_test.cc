#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "simd/simd.h"
#include "tensor/quantize.h"

namespace larder::simd {
namespace {

struct Int8Input {
  std::vector<std::int8_t> q;
  std::vector<float> scales;
  std::vector<std::int32_t> sums;
  Q8Rows rows{};

  Int8Input(const Table& table, const std::vector<float>& x, std::size_t n_cols)
      : q(x.size()), scales(x.size() / 32), sums(x.size() / 16) {
    rows = {q.data(), scales.data(), sums.data(), n_cols};
    table.quantize_q8(x.data(), x.size() / n_cols, rows);
  }
  /// What the integers stand for.
  double value(std::size_t i) const { return double{scales[i / 32]} * q[i]; }
};

struct Format {
  DType dtype;
  LinearQ8Fn Table::*on_int8;
  LinearF32Fn Table::*on_floats;
  std::size_t col_step;  // columns come in multiples of this
};

constexpr Format kFormats[] = {
    {DType::f32, nullptr, &Table::linear_f32, 1},
    {DType::f16, nullptr, &Table::linear_f16, 1},
    {DType::bf16, nullptr, &Table::linear_bf16, 1},
    {DType::q8_0, &Table::linear_q8_0, nullptr, 32},
    {DType::q4_0, &Table::linear_q4_0, nullptr, 32},
    {DType::q4_1, &Table::linear_q4_1, nullptr, 32},
    {DType::q5_0, &Table::linear_q5_0, nullptr, 32},
    {DType::q5_1, &Table::linear_q5_1, nullptr, 32},
    {DType::q4_k, &Table::linear_q4_k, nullptr, 256},
    {DType::q5_k, &Table::linear_q5_k, nullptr, 256},
    {DType::q6_k, &Table::linear_q6_k, nullptr, 256},
};

std::vector<float> random_floats(std::mt19937& rng, std::size_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> v(n);
  for (float& f : v) f = normal(rng);
  return v;
}

/// Half of the rows come from the encoder, half are random bytes (every code, sign and scale) with
/// finite f16 numbers where the format has them.
std::vector<std::byte> random_weights(std::mt19937& rng, DType dtype, std::size_t n_rows,
                                      std::size_t n_cols) {
  const std::size_t bytes = row_bytes(dtype, n_cols);
  std::vector<std::byte> weights(n_rows * bytes);
  const DTypeInfo& info = dtype_info(dtype);
  const auto floats = random_floats(rng, n_cols);
  for (std::size_t r = 0; r < n_rows; ++r) {
    std::byte* row = weights.data() + r * bytes;
    if (r % 2 == 0 || info.block_elems == 1) {
      encode_row(dtype, random_floats(rng, n_cols).data(), n_cols, row);
      continue;
    }
    for (std::size_t i = 0; i < bytes; ++i) row[i] = static_cast<std::byte>(rng());
    for (std::size_t b = 0; b < bytes; b += info.block_bytes) {
      const std::uint16_t halves[2] = {static_cast<std::uint16_t>(0x2c00 + rng() % 0x800),
                                       static_cast<std::uint16_t>(0xac00 + rng() % 0x800)};
      const bool has_min = dtype != DType::q8_0 && dtype != DType::q4_0 && dtype != DType::q5_0;
      const std::size_t at = dtype == DType::q6_k ? 208 : 0;
      std::memcpy(row + b + at, halves, has_min && at == 0 ? 4 : 2);
    }
  }
  return weights;
}

class LinearTest : public testing::TestWithParam<const Table*> {
 protected:
  const Table& table() const { return *GetParam(); }

  std::vector<float> run(const Format& f, const WeightRows& w, const std::vector<float>& x,
                         const Int8Input* input, std::size_t ld_out) const {
    const std::size_t n_x = x.size() / w.n_cols;
    // A sentinel shows writes beside the result.
    std::vector<float> out(n_x * ld_out, 12345.0F);
    if (f.on_int8 != nullptr) {
      (table().*f.on_int8)(w, input->rows, n_x, out.data(), ld_out);
    } else {
      (table().*f.on_floats)(w, x.data(), n_x, out.data(), ld_out);
    }
    for (std::size_t t = 0; t < n_x; ++t) {
      for (std::size_t r = w.n_rows; r < ld_out; ++r) EXPECT_EQ(out[t * ld_out + r], 12345.0F);
    }
    return out;
  }
};

TEST_P(LinearTest, AgreesWithDecodedWeightsInDouble) {
  std::mt19937 rng(3);
  for (const Format& f : kFormats) {
    for (int round = 0; round < 8; ++round) {
      const std::size_t n_cols = f.col_step * (1 + rng() % (f.col_step == 1    ? 700
                                                            : f.col_step == 32 ? 40
                                                                               : 5));
      const std::size_t n_rows = 1 + rng() % 70, n_x = 1 + rng() % 15;
      const std::size_t bytes = row_bytes(f.dtype, n_cols);
      const auto weights = random_weights(rng, f.dtype, n_rows, n_cols);
      const auto x = random_floats(rng, n_x * n_cols);
      const WeightRows w{weights.data(), bytes, n_rows, n_cols};
      const bool int8 = f.on_int8 != nullptr;
      const Int8Input input(table(), int8 ? x : std::vector<float>(), int8 ? n_cols : 32);
      const std::size_t ld_out = n_rows + rng() % 3;
      const auto out = run(f, w, x, &input, ld_out);
      std::vector<float> row(n_cols);
      for (std::size_t r = 0; r < n_rows; ++r) {
        decode_row(f.dtype, weights.data() + r * bytes, n_cols, row.data());
        for (std::size_t t = 0; t < n_x; ++t) {
          double sum = 0, magnitude = 0;
          for (std::size_t i = 0; i < n_cols; ++i) {
            const std::size_t at = t * n_cols + i;
            const double product = double{row[i]} * (int8 ? input.value(at) : double{x[at]});
            sum += product;
            magnitude += std::abs(product);
          }
          // Formats with a minimum subtract large terms; 4 bounds how much larger than the
          // products.
          ASSERT_NEAR(out[t * ld_out + r], sum, 4e-6 * magnitude + 1e-6)
              << dtype_info(f.dtype).name << " rows " << n_rows << " cols " << n_cols << " x "
              << n_x << " at row " << r << ", x row " << t;
        }
      }
    }
  }
}

TEST_P(LinearTest, AResultDependsOnItsTwoRowsAlone) {
  std::mt19937 rng(5);
  for (const Format& f : kFormats) {
    const std::size_t n_cols = f.col_step == 1 ? 1061 : f.col_step == 32 ? 1120 : 1280;
    const std::size_t n_rows = 53, n_x = 14, bytes = row_bytes(f.dtype, n_cols);
    const auto weights = random_weights(rng, f.dtype, n_rows, n_cols);
    const auto x = random_floats(rng, n_x * n_cols);
    const bool int8 = f.on_int8 != nullptr;
    const Int8Input input(table(), int8 ? x : std::vector<float>(), int8 ? n_cols : 32);
    const auto whole = run(f, {weights.data(), bytes, n_rows, n_cols}, x, &input, n_rows);
    for (int round = 0; round < 12; ++round) {
      const std::size_t r0 = rng() % n_rows, t0 = rng() % n_x;
      const std::size_t some_rows = round == 0 ? 1 : 1 + rng() % (n_rows - r0);
      const std::size_t some_x = round < 4 ? 1 : 1 + rng() % (n_x - t0);
      const WeightRows part_w{weights.data() + r0 * bytes, bytes, some_rows, n_cols};
      const std::vector<float> part_x(
          x.begin() + static_cast<std::ptrdiff_t>(t0 * n_cols),
          x.begin() + static_cast<std::ptrdiff_t>((t0 + some_x) * n_cols));
      const Int8Input part_input(table(), int8 ? part_x : std::vector<float>(), int8 ? n_cols : 32);
      const auto part = run(f, part_w, part_x, &part_input, some_rows);
      for (std::size_t t = 0; t < some_x; ++t) {
        for (std::size_t r = 0; r < some_rows; ++r) {
          ASSERT_EQ(part[t * some_rows + r], whole[(t0 + t) * n_rows + r0 + r])
              << dtype_info(f.dtype).name;
        }
      }
    }
  }
}

TEST_P(LinearTest, ExtremeCodesDoNotSaturate) {
  for (const Format& f : kFormats) {
    if (f.on_int8 == nullptr) continue;
    const std::size_t n_cols = 512, bytes = row_bytes(f.dtype, n_cols);
    const DTypeInfo& info = dtype_info(f.dtype);
    for (const unsigned fill : {0x00U, 0x7fU, 0x80U, 0xffU}) {
      std::vector<std::byte> weights(bytes, static_cast<std::byte>(fill));
      const std::uint16_t halves[2] = {0x3c00, 0x3800};  // 1, 0.5
      for (std::size_t b = 0; b < bytes; b += info.block_bytes) {
        const bool has_min = f.dtype != DType::q8_0 && f.dtype != DType::q4_0 &&
                             f.dtype != DType::q5_0 && f.dtype != DType::q6_k;
        std::memcpy(weights.data() + b + (f.dtype == DType::q6_k ? 208 : 0), halves,
                    has_min ? 4 : 2);
      }
      std::vector<float> row(n_cols);
      decode_row(f.dtype, weights.data(), n_cols, row.data());
      for (const float sign : {1.0F, -1.0F}) {
        const std::vector<float> x(n_cols, sign);
        const Int8Input input(table(), x, n_cols);
        const auto out = run(f, {weights.data(), bytes, 1, n_cols}, x, &input, 1);
        double sum = 0;
        for (std::size_t i = 0; i < n_cols; ++i) sum += row[i] * input.value(i);
        ASSERT_NEAR(out[0], sum, 1e-5 * std::abs(sum) + 0.01)
            << dtype_info(f.dtype).name << " bytes " << fill << " sign " << sign;
      }
    }
  }
}

TEST_P(LinearTest, QuantisesLikeTheScalarSet) {
  std::mt19937 rng(11);
  for (const float size : {1.0F, 1e-20F, 1e20F, 3e38F, 1e-38F}) {
    auto x = random_floats(rng, 9 * 96);
    for (float& v : x) v = std::clamp(v / 4, -1.0F, 1.0F) * size;
    for (std::size_t i = 0; i < 32; ++i) x[32 + i] = 0.0F;
    for (std::size_t i = 0; i < 32; ++i) x[64 + i] = static_cast<float>(i) + 0.5F;  // ties
    x[64] = 127.0F;
    const Int8Input got(table(), x, 96), expected(scalar_table(), x, 96);
    EXPECT_EQ(got.q, expected.q);
    EXPECT_EQ(got.scales, expected.scales);
    EXPECT_EQ(got.sums, expected.sums);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float scale = got.scales[i / 32];
      ASSERT_LE(std::abs(got.value(i) - x[i]), scale * 0.5001 + 1e-30) << i;
      if (i % 16 == 0) {
        std::int32_t sum = 0;
        for (std::size_t j = i; j < i + 16; ++j) sum += got.q[j];
        ASSERT_EQ(got.sums[i / 16], sum);
      }
    }
  }
}

TEST_P(LinearTest, NonFiniteActivationsPoisonTheirBlockOnly) {
  std::mt19937 rng(13);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    auto x = random_floats(rng, 96);
    x[40] = bad;
    const Int8Input input(table(), x, 96);
    EXPECT_TRUE(std::isnan(input.scales[1]));
    EXPECT_TRUE(std::isfinite(input.scales[0]) && std::isfinite(input.scales[2]));
    EXPECT_EQ(input.sums[2], 0);
    EXPECT_EQ(input.sums[3], 0);
    for (std::size_t i = 32; i < 64; ++i) EXPECT_EQ(input.q[i], 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, LinearTest,
                         testing::ValuesIn(available().begin(), available().end()),
                         [](const auto& set) { return std::string(set.param->name); });

}  // namespace
}  // namespace larder::simd
